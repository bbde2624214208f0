// RMSNorm (arXiv 1910.07467), y = x * factor * weight with factor = 1 / sqrt(mean(x^2) + EPSILON); where LAYER is 1
// LayerNorm (arXiv 1607.06450), y = (x - mean) * factor * weight + bias with factor = 1 / sqrt(mean((x - mean)^2) +
// EPSILON). Of each part of a row (norm_parts.wgsl); those that are not normed are copied. `stored` may add a
// residual. Eight threads a part. Grid: rows x PARTS / 8, flat.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<E>;
@group(0) @binding(4) var<storage, read_write> statistics: array<f32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) local: vec3u) {
  let index = (group.y * groups.x + group.x) * 8u + local.y;
  let count = rows.count * PARTS;
  let row = min(index, count - 1u) / PARTS;
  let part = min(index, count - 1u) % PARTS;
  let start = row * STRIDE + part_start(part);
  let columns = part_columns(part);
  let width = f32(columns * LANES);
  var s = Statistics();
  if (LAYER == 1u) {
    var sum = E();
    for (var i = local.x; i < columns; i += 8u) { sum += x[start + i]; }
    let mean = sum_of_part(local, total(sum)) / width;
    // A second pass: the mean of squares less the square of the mean would lose what matters where the mean is large.
    var squares = 0.0;
    for (var i = local.x; i < columns; i += 8u) {
      let e = x[start + i] - mean;
      squares += product(e, e);
    }
    s = Statistics(mean, 1.0 / sqrt(sum_of_part(local, squares) / width + EPSILON_F));
  } else {
    var squares = 0.0;
    for (var i = local.x; i < columns; i += 8u) {
      let e = x[start + i];
      squares += product(e, e);
    }
    s.factor = 1.0 / sqrt(sum_of_part(local, squares) / width + EPSILON_F);
  }
  if (index >= count) { return; }
  if (part >= NORMED) {
    for (var i = local.x; i < columns; i += 8u) { y[start + i] = x[start + i]; }
    return;
  }
  let first = weight_start(part);
  for (var i = local.x; i < columns; i += 8u) {
    var normed = factor(first + i) * normalized(x[start + i], s);
    if (BIAS == 1u) { normed += weight[WEIGHTS + first + i]; }
    y[start + i] = stored(normed, start + i);
  }
  if (local.x == 0u) {
    let at = (row * NORMED + part) * (1u + LAYER);
    if (LAYER == 1u) { statistics[at] = s.mean; }
    statistics[at + LAYER] = s.factor;
  }
}
