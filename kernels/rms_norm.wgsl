// RMSNorm (arXiv 1910.07467): y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + EPSILON). Eight threads a row.
// Grid: rows / 8.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<E>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.x * 8u + local.y;
  let start = min(row, rows.count - 1u) * COLUMNS;
  var squares = 0.0;
  for (var i = local.x; i < COLUMNS; i += 8u) {
    let e = x[start + i];
    squares += product(e, e);
  }
  partial[local.y * 8u + local.x] = squares;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += partial[local.y * 8u + i]; }
  if (row >= rows.count) { return; }
  let r = 1.0 / sqrt(sum / f32(WIDTH) + EPSILON_F);
  for (var i = local.x; i < COLUMNS; i += 8u) { y[start + i] = weight[i] * (x[start + i] * r); }
  if (local.x == 0u) { rstd[row] = r; }
}
