// Gradient of head_norm.wgsl's input, in place of d_y: as rms_norm_backward.wgsl for the query and key heads; that of the values is
// theirs. Eight threads a row. Grid: tokens x ALL / 8, flat.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_y: array<E>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) local: vec3u) {
  let row = (group.y * groups.x + group.x) * 8u + local.y;
  let count = rows.count * ALL;
  let source = min(row, count - 1u);
  let start = source * COLUMNS;
  let head = source % ALL;
  let first = select(0u, COLUMNS, head >= HEADS);
  // Of a value's head anything: it is not used.
  let r = rstd[source / ALL * (HEADS + KEYS) + min(head, HEADS + KEYS - 1u)];
  var dots = 0.0;
  for (var i = local.x; i < COLUMNS; i += 8u) {
    dots += product(d_y[start + i] * weight[first + i], x[start + i] * r);
  }
  partial[local.y * 8u + local.x] = dots;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += partial[local.y * 8u + i]; }
  if (row >= count || head >= HEADS + KEYS) { return; }
  let mean = sum / f32(WIDTH);
  for (var i = local.x; i < COLUMNS; i += 8u) {
    d_y[start + i] = r * (d_y[start + i] * weight[first + i] - x[start + i] * (r * mean));
  }
}
