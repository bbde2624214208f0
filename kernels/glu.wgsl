// A gated linear unit (arXiv 2002.05202): y = act(gate) * up, with gate and up side by side in a row of gate_up;
// `activate` is one of activation.ts. Grid: flat over rows x COLUMNS elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> gate_up: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  let row = i / COLUMNS;
  if (row >= rows.count) { return; }
  let at = row * 2u * COLUMNS + i % COLUMNS;
  y[i] = activate(gate_up[at]) * gate_up[at + COLUMNS];
}
