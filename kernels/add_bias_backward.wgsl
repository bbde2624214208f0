// Gradient of a bias, first of two stages: partial[block, column] = SCALE_F times the sum over the block's 32 rows of
// d_y. `column_sums.wgsl` is the second. Grid: columns / 64 x blocks.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> d_y: array<E>;
@group(0) @binding(2) var<storage, read_write> partial: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= COLUMNS) { return; }
  let end = min(id.y * 32u + 32u, rows.count);
  var sum = E();
  for (var row = id.y * 32u; row < end; row += 1u) { sum += d_y[row * COLUMNS + id.x]; }
  partial[id.y * COLUMNS + id.x] = sum * SCALE_F;
}
