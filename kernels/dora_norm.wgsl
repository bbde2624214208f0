// DoRA (arXiv 2402.09353): of each row n of a product, factors[n] = (magnitude / norm, 1 / norm), where norm is that
// of the row of weights + SCALE_F b a; (1, 0) of a row without an adapter. A workgroup a row: ROWS of them, from row
// FIRST of the product on. weight(i) reads element i of those, COLUMNS a row. Grid: ROWS workgroups.
@group(0) @binding(0) var<storage, read> weights: array<Packed>;
@group(0) @binding(1) var<storage, read> a: array<E>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> magnitude: array<f32>;
@group(0) @binding(4) var<storage, read_write> factors: array<vec2f>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) { return; }
  let n = FIRST + row;
  let place = place_of(n);
  if (place.row == NONE) {
    if (local == 0u) { factors[n] = vec2f(1.0, 0.0); }
    return;
  }
  var sum = 0.0;
  for (var c = local; c < COLUMNS; c += 64u) {
    var delta = E();
    for (var k = 0u; k < RANK; k += 1u) {
      delta += b[place.row * RANK + k] * a[(place.block * RANK + k) * COLUMNS + c];
    }
    let v = weight(row * COLUMNS + c) + SCALE_F * delta;
    sum += product(v, v);
  }
  partial[local] = sum;
  workgroupBarrier();
  if (local == 0u) {
    var all = 0.0;
    for (var i = 0u; i < 64u; i += 1u) { all += partial[i]; }
    let norm = sqrt(all);
    factors[n] = vec2f(magnitude[place.row] / norm, 1.0 / norm);
  }
}
