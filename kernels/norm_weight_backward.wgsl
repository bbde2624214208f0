// Gradient of norm.wgsl's weight and bias, first of two stages: partial[block, column] = sum over the block's 32
// rows, and over the parts that have this weight, of d_y * normalized x, and after those of all weights the sums of
// d_y for the bias. `column_sums.wgsl` is the second. Grid: WEIGHTS / 64 x blocks.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> statistics: array<f32>;
@group(0) @binding(3) var<storage, read> d_y: array<E>;
@group(0) @binding(4) var<storage, read_write> partial: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= WEIGHTS) { return; }
  var first = select(0u, HEADS, id.x >= QUERY);
  var end = select(HEADS, NORMED, id.x >= QUERY);
  if (EACH == 1u) {
    first = select(id.x / QUERY, HEADS + (id.x - HEADS * QUERY) / KEY, id.x >= HEADS * QUERY);
    end = first + 1u;
  }
  let column = id.x - weight_start(first);
  let last = min(id.y * 32u + 32u, rows.count);
  var sum = E();
  var bias = E();
  for (var row = id.y * 32u; row < last; row += 1u) {
    for (var part = first; part < end; part += 1u) {
      let at = row * STRIDE + part_start(part) + column;
      sum += d_y[at] * normalized(x[at], statistics_of(row, part));
      if (BIAS == 1u) { bias += d_y[at]; }
    }
  }
  let at = id.y * WEIGHTS * (1u + BIAS) + id.x;
  partial[at] = sum;
  if (BIAS == 1u) { partial[at + WEIGHTS] = bias; }
}
