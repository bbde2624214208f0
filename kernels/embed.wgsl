// Embedding lookup: x[t] = SCALE_F * table[ids[t]], for the ids whose TABLE_ROWS rows from FIRST on are bound.
// TableElement is an element of the table as it is stored, which unpack_table reads (storage.ts). Grid: flat over
// tokens x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<TableElement>;
@group(0) @binding(3) var<storage, read_write> x: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  // Ids before FIRST wrap around to large numbers.
  let row = ids[i / COLUMNS] - FIRST;
  if (row >= TABLE_ROWS) { return; }
  x[i] = unpack_table(table[row * COLUMNS + i % COLUMNS]) * SCALE_F;
}
