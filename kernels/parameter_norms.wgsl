// Second stage of the gradient norm: squares[parameter] = sum of the partial sums of its blocks. One workgroup each.
// After a norm that was not finite nothing changes any more, so that the host can still see which parameter it was.
// GUARD is 1 where the parameter is updated right after this: a norm that is not finite then forbids that update and
// all later ones. Grid: parameters, from place.parameter on.
@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> blocks: array<vec2u>;
@group(0) @binding(2) var<storage, read> partial: array<f32>;
@group(0) @binding(3) var<storage, read_write> squares: array<f32>;
// (norm, coefficient, 1 where an earlier norm is not finite, 0)
@group(0) @binding(4) var<storage, read_write> clip: vec4f;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let parameter = place.parameter + group.x;
  let range = blocks[parameter];
  var sum = 0.0;
  for (var i = range.x + local; i < range.y; i += 64u) { sum += partial[i]; }
  sums[local] = sum;
  workgroupBarrier();
  if (local != 0u || clip.z != 0.0) { return; }
  var all = 0.0;
  for (var i = 0u; i < 64u; i += 1u) { all += sums[i]; }
  squares[parameter] = all;
  // The exponent's bits, since drivers may assume that no NaN exists.
  if (GUARD == 1u && (bitcast<u32>(all) & 0x7f800000u) == 0x7f800000u) { clip.z = 1.0; }
}
