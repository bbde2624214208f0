// Second stage of the gradient norm: squares[parameter] = sum of the partial sums of its blocks. One workgroup each.
// After a norm that was not finite nothing changes any more, so that the host can still see which parameter it was.
// Grid: parameters.
@group(0) @binding(0) var<storage, read> blocks: array<vec2u>;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;
@group(0) @binding(3) var<storage, read> clip: vec4f;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let range = blocks[group.x];
  var sum = 0.0;
  for (var i = range.x + local; i < range.y; i += 64u) { sum += partial[i]; }
  sums[local] = sum;
  workgroupBarrier();
  if (local != 0u || clip.z != 0.0) { return; }
  var all = 0.0;
  for (var i = 0u; i < 64u; i += 1u) { all += sums[i]; }
  squares[group.x] = all;
}
