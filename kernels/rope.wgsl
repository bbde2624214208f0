// Rotary position embedding (arXiv 2104.09864, in transformers' half-split layout), in place on the query and key heads
// of qkv: (a, b) -> (a cos - b sin, b cos + a sin); BACKWARD turns the other way. The table comes from the host in
// float64, since drivers' sin and cos are off by up to 7e-4. Grid: flat over tokens x HEADS x HALF elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
@group(0) @binding(2) var<storage, read> cos_sin: array<E>;
@group(0) @binding(3) var<storage, read_write> qkv: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  let token = i / (HEADS * HALF);
  if (token >= rows.count) { return; }
  let head = i / HALF % HEADS;
  let column = i % HALF;
  let entry = spans[token].w * 2u * HALF + column;
  let c = cos_sin[entry];
  var s = cos_sin[entry + HALF];
  if (BACKWARD == 1u) { s = -s; }
  let first = token * STRIDE + head * 2u * HALF + column;
  let a = qkv[first];
  let b = qkv[first + HALF];
  qkv[first] = a * c - b * s;
  qkv[first + HALF] = b * c + a * s;
}
