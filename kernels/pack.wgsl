// Float32 to bfloat16, to the nearest, ties to even: pack_bf16 of storage.ts. A row has ROW floats. Grid: flat over
// vec4s.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> values: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec2u>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (4u * i < rows.count * ROW) { packed[i] = pack_bf16(values[i]); }
}
