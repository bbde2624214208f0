// RMSNorm, gradient of its input: with g = d_y * weight and n = x * rstd,
// d_x = rstd * (g - n * mean(g * n)); added to d_x where ADD is 1. Eight threads a row. Grid: rows / 8.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> d_y: array<E>;
@group(0) @binding(5) var<storage, read_write> d_x: array<E>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.x * 8u + local.y;
  let source = min(row, rows.count - 1u);
  let start = source * COLUMNS;
  let r = rstd[source];
  var dots = 0.0;
  for (var i = local.x; i < COLUMNS; i += 8u) {
    dots += product(d_y[start + i] * weight[i], x[start + i] * r);
  }
  partial[local.y * 8u + local.x] = dots;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += partial[local.y * 8u + i]; }
  if (row >= rows.count) { return; }
  let mean = sum / f32(WIDTH);
  for (var i = local.x; i < COLUMNS; i += 8u) {
    let gradient = r * (d_y[start + i] * weight[i] - x[start + i] * (r * mean));
    if (ADD == 1u) { d_x[start + i] += gradient; } else { d_x[start + i] = gradient; }
  }
}
