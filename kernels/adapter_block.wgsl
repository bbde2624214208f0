// The second factors of the adapters of one product, b[rows, RANK] under each other, as one matrix wide[ROWS, WIDTH]
// for the product with all first factors' columns: each row has its module's RANK columns, and 0 elsewhere. factor(n)
// multiplies row n; place_of(n) says which module, and which row of b, row n of the product belongs to (NONE: no
// adapter). Grid: flat over wide.
@group(0) @binding(0) var<storage, read> b: array<f32>;
@group(0) @binding(1) var<storage, read_write> wide: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= ROWS * WIDTH) { return; }
  let n = i / WIDTH;
  let column = i % WIDTH;
  let place = place_of(n);
  if (place.row == NONE || column / RANK != place.block) { wide[i] = 0.0; return; }
  wide[i] = b[place.row * RANK + column % RANK] * factor(n);
}
