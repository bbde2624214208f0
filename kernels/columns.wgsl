// Columns FIRST to END of x in y, which keeps its own elsewhere where KEEPS is 1, and otherwise becomes 0 there. Grid:
// flat over rows x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  let column = i % COLUMNS;
  if (column >= FIRST && column < END) { y[i] = x[i]; } else if (KEEPS == 0u) { y[i] = 0.0; }
}
