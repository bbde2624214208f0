// A preference loss of given sums, to be compared with finite differences. The text of the loss itself is put before
// this file. sums[2 i] = (sum of chosen, its labels, its reference, 0), sums[2 i + 1] likewise of rejected; found[i]
// = (value, d_chosen, d_rejected, 0). Grid: sums / 64.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> sums: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> found: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count) { return; }
  let c = sums[2u * i];
  let r = sums[2u * i + 1u];
  let loss = preference_loss(Response(c.x, c.y, c.z), Response(r.x, r.y, r.z));
  found[i] = vec4f(loss.value, loss.d_chosen, loss.d_rejected, 0.0);
}
