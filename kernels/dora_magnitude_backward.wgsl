// d_magnitude (+)= sum over tokens of d_y times the product before it was scaled, over the norm of its row, which
// counts as a constant. That product is base, and the adapters' part, whose share is that of b with its own gradient
// (before factors). Each thread has a row of b. Grid: ROWS / 64 workgroups.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> factors: array<vec2f>;
@group(0) @binding(2) var<storage, read> d_y: array<f32>;
@group(0) @binding(3) var<storage, read> base: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> d_wide: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_magnitude: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= ROWS) { return; }
  let place = product_row(row);
  let n = place.row;
  var sum = 0.0;
  for (var t = 0u; t < rows.count; t += 1u) { sum += d_y[t * COLUMNS + n] * base[t * COLUMNS + n]; }
  for (var k = 0u; k < RANK; k += 1u) {
    sum += b[row * RANK + k] * d_wide[n * WIDTH + place.block * RANK + k];
  }
  sum *= factors[n].y;
  if (rows.accumulate != 0u) { sum += d_magnitude[row]; }
  d_magnitude[row] = sum;
}
