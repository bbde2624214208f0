// y (+)= (factor - 1) x, column by column: what DoRA's magnitudes change of a product. Grid: flat over rows x COLUMNS
// elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> factors: array<vec2f>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  let change = (factors[i % COLUMNS].x - 1.0) * x[i];
  y[i] = select(change, y[i] + change, ADDS == 1u);
}
