// Gradient of head_norm.wgsl's weight, first of two stages: partial[block, column] = sum over the block's 32 tokens, and over the
// heads that the column's half belongs to, of d_y * x * rstd. `column_sums.wgsl` is the second. Grid: 2 COLUMNS / 64 x blocks.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read> d_y: array<E>;
@group(0) @binding(4) var<storage, read_write> partial: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= 2u * COLUMNS) { return; }
  let of_keys = id.x >= COLUMNS;
  let first = select(0u, HEADS, of_keys);
  let last = select(HEADS, HEADS + KEYS, of_keys);
  let column = id.x % COLUMNS;
  let end = min(id.y * 32u + 32u, rows.count);
  var sum = E();
  for (var token = id.y * 32u; token < end; token += 1u) {
    for (var head = first; head < last; head += 1u) {
      let at = (token * ALL + head) * COLUMNS + column;
      sum += d_y[at] * (x[at] * rstd[token * (HEADS + KEYS) + head]);
    }
  }
  partial[id.y * 2u * COLUMNS + id.x] = sum;
}
