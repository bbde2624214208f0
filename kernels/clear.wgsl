// Zeros, where this pass does not add to what is there: rows.accumulate is 0. Grid: flat over LENGTH vec4s.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read_write> values: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i < LENGTH && rows.accumulate == 0u) { values[i] = vec4f(); }
}
