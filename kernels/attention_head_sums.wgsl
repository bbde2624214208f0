// d_keys[token, FIRST + kv head] = the sum of parts[token, head] over the GROUP heads that share keys, in their order:
// of keys, then of values, COLUMNS each. Grid: flat over tokens x HEADS x COLUMNS, of 2 key-value heads each.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> d_keys: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * HEADS * COLUMNS) { return; }
  let token = i / (HEADS * COLUMNS);
  let head = i / COLUMNS % HEADS;
  let column = i % COLUMNS;
  let at = (token * HEADS + head) * GROUP * COLUMNS + column;
  var sum = parts[at];
  for (var member = 1u; member < GROUP; member += 1u) { sum += parts[at + member * COLUMNS]; }
  d_keys[token * STRIDE + (FIRST + head) * COLUMNS + column] = sum;
}
