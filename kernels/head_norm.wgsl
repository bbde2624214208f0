// RMSNorm of each query and key head, as rms_norm.wgsl: row by row of qkv[tokens x ALL heads, COLUMNS], with the first row of weight
// for the first HEADS heads of a token and the second for the next KEYS; those after them, the values, are copied. Eight threads a
// row. Grid: tokens x ALL / 8, flat.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<E>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) local: vec3u) {
  let row = (group.y * groups.x + group.x) * 8u + local.y;
  let count = rows.count * ALL;
  let start = min(row, count - 1u) * COLUMNS;
  var squares = 0.0;
  for (var i = local.x; i < COLUMNS; i += 8u) {
    let e = x[start + i];
    squares += product(e, e);
  }
  partial[local.y * 8u + local.x] = squares;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += partial[local.y * 8u + i]; }
  if (row >= count) { return; }
  let head = row % ALL;
  if (head >= HEADS + KEYS) {
    for (var i = local.x; i < COLUMNS; i += 8u) { y[start + i] = x[start + i]; }
    return;
  }
  let first = select(0u, COLUMNS, head >= HEADS);
  let r = 1.0 / sqrt(sum / f32(WIDTH) + EPSILON_F);
  for (var i = local.x; i < COLUMNS; i += 8u) { y[start + i] = weight[first + i] * (x[start + i] * r); }
  if (local.x == 0u) { rstd[row / ALL * (HEADS + KEYS) + head] = r; }
}
