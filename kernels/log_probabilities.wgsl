// For each label: the log-sum-exp of its row of logits and the log-probability of its target. One pass over the row with
// a running maximum, 64 threads a row: eight threads side by side go through an eighth of it, four vec4s a step, so that
// a driver that runs eight threads at a time reads on without gaps. Rows of logits are STRIDE vec4s long, of which
// VOCABULARY floats count; `score`, which stands before this text, scales and caps them. Grid: labels of the piece (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> logps: array<f32>;
var<workgroup> maxima: array<f32, 64>;
var<workgroup> sums: array<f32, 64>;

const LOWEST = vec4f(-3.0e38);
// An eighth of a row, in whole steps of 8 threads x 4.
const PART = (STRIDE + 255u) / 256u * 32u;

// Past the row's end, LOWEST, of which `weight` is 0 even where nothing larger was seen.
fn logit(row: u32, i: u32) -> vec4f {
  let past = vec4u(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) >= vec4u(VOCABULARY);
  return select(score(logits[row * STRIDE + min(i, STRIDE - 1u)]), LOWEST, past);
}
fn weight(v: vec4f, maximum: vec4f) -> vec4f { return select(exp_accurate4(v - maximum), vec4f(), v == LOWEST); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  var maximum = LOWEST;
  var sum = vec4f();
  let first = local / 8u * PART;
  for (var i = first + local % 8u; i < min(first + PART, STRIDE); i += 32u) {
    let a = logit(row, i);
    let b = logit(row, i + 8u);
    let c = logit(row, i + 16u);
    let d = logit(row, i + 24u);
    let larger = max(maximum, max(max(a, b), max(c, d)));
    sum = sum * exp_accurate4(maximum - larger)
      + (weight(a, larger) + weight(b, larger)) + (weight(c, larger) + weight(d, larger));
    maximum = larger;
  }
  var most = max(max(maximum.x, maximum.y), max(maximum.z, maximum.w));
  let scaled = sum * exp_accurate4(maximum - most);
  maxima[local] = most;
  sums[local] = (scaled.x + scaled.y) + (scaled.z + scaled.w);
  workgroupBarrier();
  if (local != 0u) { return; }
  for (var i = 1u; i < 64u; i += 1u) { most = max(most, maxima[i]); }
  var all = 0.0;
  for (var i = 0u; i < 64u; i += 1u) { all += sums[i] * exp_accurate(maxima[i] - most); }
  let l = most + log(all);
  let target_id = targets[row];
  lse[row] = l;
  logps[row] = score(logits[row * STRIDE + target_id / 4u])[target_id % 4u] - l;
}
