// Bfloat16 to float32, exact: unpack_packed of storage.ts. A row has ROW floats. Grid: flat over vec4s.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> packed: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (4u * i < rows.count * ROW) { values[i] = unpack_packed(packed[i]); }
}
