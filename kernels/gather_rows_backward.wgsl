// d_x[t] = sum of d_y over the labels that row t predicts: none, one, or two where chosen and rejected part.
// NONE marks an absent label. Grid: flat over tokens x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> labels_of_row: array<vec2u>;
@group(0) @binding(2) var<storage, read> d_y: array<E>;
@group(0) @binding(3) var<storage, read_write> d_x: array<E>;
const NONE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  let labels = labels_of_row[i / COLUMNS];
  var sum = E();
  if (labels.x != NONE) { sum += d_y[labels.x * COLUMNS + i % COLUMNS]; }
  if (labels.y != NONE) { sum += d_y[labels.y * COLUMNS + i % COLUMNS]; }
  d_x[i] = sum;
}
