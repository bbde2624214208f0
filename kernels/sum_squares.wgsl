// First of three stages of the gradient norm: partial[block] = sum of squares of BLOCK vec4s, COUNT floats in all.
// Parameters start at block boundaries, and what is between them is 0. Few threads, since on a driver on the
// processor each that waits at a barrier costs more than it reads. Grid: blocks (x, spilling into y).
@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
var<workgroup> sums: array<f32, 8>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let block = group.y * groups.x + group.x;
  let end = min((block + 1u) * BLOCK, LENGTH);
  var sum = vec4f();
  for (var i = block * BLOCK + local; i < end; i += 8u) {
    let past = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) >= vec4u(COUNT);
    let g = select(gradients[i], vec4f(), past);
    sum += g * g;
  }
  sums[local] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  if (local != 0u || block * BLOCK >= LENGTH) { return; }
  var all = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { all += sums[i]; }
  partial[place.block + block] = all;
}
