// d_b (+)= the gradient of the matrix that adapter_block.wgsl makes of b, whose row n was multiplied by factor(n);
// added to what is there where rows.accumulate is not 0. Grid: flat over b, ROWS x RANK elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> d_wide: array<f32>;
@group(0) @binding(2) var<storage, read_write> d_b: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= ROWS * RANK) { return; }
  let place = product_row(i / RANK);
  var sum = d_wide[place.row * WIDTH + place.block * RANK + i % RANK] * factor(place.row);
  if (rows.accumulate != 0u) { sum += d_b[i]; }
  d_b[i] = sum;
}
