// Puts the keys and values of a pass's tokens into the cache, each at the last row that its token sees: COLUMNS
// elements from FIRST on of rows of STRIDE. Grid: flat over tokens x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
@group(0) @binding(2) var<storage, read> qkv: array<E>;
@group(0) @binding(3) var<storage, read_write> cache: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  let token = i / COLUMNS;
  cache[(spans[token].y - 1u) * COLUMNS + i % COLUMNS] = qkv[token * STRIDE + FIRST + i % COLUMNS];
}
