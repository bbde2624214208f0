// Second stage of a column sum: total[column] = sum over blocks of 32 rows, in order; added to what is there where
// rows.accumulate is not 0. Grid: columns / 64.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> partial: array<E>;
@group(0) @binding(2) var<storage, read_write> sums: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= COLUMNS) { return; }
  var sum = E();
  for (var block = 0u; block * 32u < rows.count; block += 1u) { sum += partial[block * COLUMNS + id.x]; }
  if (rows.accumulate != 0u) { sum += sums[id.x]; }
  sums[id.x] = sum;
}
