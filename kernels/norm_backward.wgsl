// Gradient of norm.wgsl's input: with g = d_y * weight and n = (x - mean) * factor, d_x = factor * (g - mean(g) - n *
// mean(g * n)), where RMSNorm has neither mean(x) nor mean(g). `put` writes it over d_y, to d_x, or adds it there;
// the gradient of what is not normed is d_y. Eight threads a part. Grid: rows x PARTS / 8, flat.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;

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
  // Of a part that is not normed anything: it is not used.
  let first = weight_start(min(part, NORMED - 1u));
  let s = statistics_of(row, min(part, NORMED - 1u));
  var dots = 0.0;
  var sums = E();
  for (var i = local.x; i < columns; i += 8u) {
    let g = d_y[start + i] * factor(first + i);
    dots += product(g, normalized(x[start + i], s));
    if (LAYER == 1u) { sums += g; }
  }
  let mean = sum_of_part(local, dots) / width;
  var mean_gradient = 0.0;
  if (LAYER == 1u) {
    mean_gradient = sum_of_part(local, total(sums)) / width;
  }
  if (index >= count) { return; }
  if (part >= NORMED) {
    for (var i = local.x; i < columns; i += 8u) { pass_on(start + i); }
    return;
  }
  for (var i = local.x; i < columns; i += 8u) {
    let g = d_y[start + i] * factor(first + i);
    if (LAYER == 1u) {
      put(start + i, s.factor * ((g - mean_gradient) - (x[start + i] - s.mean) * (s.factor * mean)));
    } else {
      put(start + i, s.factor * (g - x[start + i] * (s.factor * mean)));
    }
  }
}
