// In place: logits become their gradient, weight * (onehot(target) - softmax), where weight = dL/d(log-probability),
// times the slope of the score that stands before this text. Padding columns become 0. Of rows of STRIDE vec4s
// COLUMNS from FIRST on. Grid: flat over labels of the piece x COLUMNS.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read_write> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let flat = flat_index(group, groups, local);
  let row = flat / COLUMNS;
  if (row >= rows.count) { return; }
  let at = FIRST + flat % COLUMNS;
  let i = row * STRIDE + at;
  let column = vec4u(at * 4u) + vec4u(0u, 1u, 2u, 3u);
  let p = exp_accurate4(score(logits[i]) - lse[row]);
  let onehot = select(vec4f(), vec4f(1.0), column == vec4u(targets[row]));
  logits[i] = select(weights[row] * (onehot - p) * slope(logits[i]), vec4f(), column >= vec4u(VOCABULARY));
}
