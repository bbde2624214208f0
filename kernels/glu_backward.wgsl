// Gated linear unit backward, in place: gate_up becomes its own gradient, and d_y becomes y again, which the gradient
// of the down projection needs. Grid: flat over rows x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read_write> gate_up: array<E>;
@group(0) @binding(2) var<storage, read_write> d_y: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  let row = i / COLUMNS;
  if (row >= rows.count) { return; }
  let at = row * 2u * COLUMNS + i % COLUMNS;
  let gate = activated(gate_up[at]);
  let up = gate_up[at + COLUMNS];
  let d = d_y[i];
  gate_up[at] = d * up * gate.slope;
  gate_up[at + COLUMNS] = d * gate.value;
  d_y[i] = gate.value * up;
}
