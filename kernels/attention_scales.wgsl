// scales[token, FIRST + head]: the power of two that brings the largest magnitude of a head's row to 2^14 .. 2^15, for
// attention by matrices of float16; NaN where the row has an infinity or a NaN. Grid: flat over tokens x HEADS.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * HEADS) { return; }
  // As whole numbers bits are in the order of the magnitudes, and those of infinity and NaN are the largest.
  var most = vec4u();
  for (var d = 0u; d < COLUMNS; d += 1u) {
    most = max(most, bitcast<vec4u>(x[i * COLUMNS + d]) & vec4u(0x7fffffffu));
  }
  scales[i / HEADS * SCALES + FIRST + i % HEADS] = scale_of(max(max(most.x, most.y), max(most.z, most.w)));
}
