// For each label: the log-sum-exp of its row of logits and the log-probability of its target. One pass over the row with
// a running maximum; 64 threads a row. Rows of logits are STRIDE vec4s long, of which VOCABULARY floats count.
// Grid: labels of the piece (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> logps: array<f32>;
var<workgroup> maxima: array<f32, 64>;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  var maximum = -3.0e38;
  var sum = vec4f();
  for (var i = local; i < STRIDE; i += 64u) {
    var v = logits[row * STRIDE + i];
    let past = vec4u(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) >= vec4u(VOCABULARY);
    v = select(v, vec4f(-3.0e38), past);
    let larger = max(maximum, max(max(v.x, v.y), max(v.z, v.w)));
    if (larger > maximum) {
      sum *= exp_accurate(maximum - larger);
      maximum = larger;
    }
    sum += exp_accurate4(v - maximum);
  }
  maxima[local] = maximum;
  sums[local] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  if (local != 0u) { return; }
  for (var i = 1u; i < 64u; i += 1u) { maximum = max(maximum, maxima[i]); }
  var all = 0.0;
  for (var i = 0u; i < 64u; i += 1u) { all += sums[i] * exp_accurate(maxima[i] - maximum); }
  let l = maximum + log(all);
  let target_id = targets[row];
  lse[row] = l;
  logps[row] = logits[row * STRIDE + target_id / 4u][target_id % 4u] - l;
}
