// Embedding gradient without atomics: the host lists, for each distinct token, the rows where it stands, so that each
// sum has one owner and a fixed order. d_table[id] += SCALE_F * sum of d_x[row], but for the id PADDING (none:
// 0xffffffff), which PyTorch's nn.Embedding does not train either. Bound are the TABLE_ROWS rows from FIRST on. Grid:
// flat over distinct tokens x COLUMNS.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> distinct_ids: array<u32>;
@group(0) @binding(2) var<storage, read> distinct_starts: array<u32>;
@group(0) @binding(3) var<storage, read> distinct_rows: array<u32>;
@group(0) @binding(4) var<storage, read> d_x: array<E>;
@group(0) @binding(5) var<storage, read_write> d_table: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  let u = i / COLUMNS;
  let column = i % COLUMNS;
  // Ids before FIRST wrap around to large numbers.
  let row = distinct_ids[u] - FIRST;
  if (row >= TABLE_ROWS || distinct_ids[u] == PADDING) { return; }
  var sum = E();
  for (var n = distinct_starts[u]; n < distinct_starts[u + 1u]; n += 1u) {
    sum += d_x[distinct_rows[n] * COLUMNS + column];
  }
  d_table[row * COLUMNS + column] += sum * SCALE_F;
}
