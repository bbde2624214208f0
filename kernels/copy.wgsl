// y = x. Grid: flat over rows x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  y[i] = x[i];
}
