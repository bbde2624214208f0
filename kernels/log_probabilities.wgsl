// For each label: the log-sum-exp of its row of logits, the log-probability of its target, and the figures of the row's
// distribution: (entropy, mean logit, 1 where the target is the most probable token, probability of the target). One
// pass over the row with a running maximum, 64 threads a row: eight threads side by side go through an eighth of it,
// four vec4s a step, so that a driver that runs eight threads at a time reads on without gaps. Rows of logits are
// STRIDE vec4s long, of which VOCABULARY floats count; `score`, which stands before this text, scales and caps them.
// Grid: labels of the piece (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> logps: array<f32>;
@group(0) @binding(5) var<storage, read_write> figures: array<vec4f>;
// Of each thread: its maximum, its sums, and how far before the row's end the row's maximum stands in it (0: not at
// all), which a float tells exactly of up to 2^24 tokens.
var<workgroup> maxima: array<f32, 64>;
var<workgroup> sums: array<vec4f, 64>;
// Of the row.
var<workgroup> largest: f32;

const LOWEST = vec4f(-3.0e38);
// An eighth of a row, in whole steps of 8 threads x 4.
const PART = (STRIDE + 255u) / 256u * 32u;

// Past the row's end, LOWEST, of which `weight` is 0 even where nothing larger was seen.
fn logit(row: u32, i: u32) -> vec4f {
  let past = vec4u(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) >= vec4u(VOCABULARY);
  return select(score(logits[row * STRIDE + min(i, STRIDE - 1u)]), LOWEST, past);
}
fn weight(v: vec4f, maximum: vec4f) -> vec4f { return select(exp_accurate4(v - maximum), vec4f(), v == LOWEST); }
fn counted(v: vec4f) -> vec4f { return select(v, vec4f(), v == LOWEST); }
fn components(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  var maximum = LOWEST;
  // The vec4 in which each component met its maximum first.
  var place = vec4u();
  // Of w = exp(v - maximum), of w * (v - maximum), and of v. The entropy from these is a sum of two terms that are not
  // negative; from the moment of v itself it would be a difference of two numbers as large as the logits.
  var sum = vec4f();
  var moment = vec4f();
  var sum_of_logits = vec4f();
  let first = local / 8u * PART;
  for (var i = first + local % 8u; i < min(first + PART, STRIDE); i += 32u) {
    let a = logit(row, i);
    let b = logit(row, i + 8u);
    let c = logit(row, i + 16u);
    let d = logit(row, i + 24u);
    let up_to_a = max(maximum, a);
    let up_to_b = max(up_to_a, b);
    let up_to_c = max(up_to_b, c);
    let larger = max(up_to_c, d);
    place = select(place, vec4u(i), a > maximum);
    place = select(place, vec4u(i + 8u), b > up_to_a);
    place = select(place, vec4u(i + 16u), c > up_to_b);
    place = select(place, vec4u(i + 24u), d > up_to_c);
    let shrink = exp_accurate4(maximum - larger);
    let wa = weight(a, larger);
    let wb = weight(b, larger);
    let wc = weight(c, larger);
    let wd = weight(d, larger);
    moment = (moment + (maximum - larger) * sum) * shrink
      + (wa * (a - larger) + wb * (b - larger)) + (wc * (c - larger) + wd * (d - larger));
    sum = sum * shrink + (wa + wb) + (wc + wd);
    sum_of_logits += (counted(a) + counted(b)) + (counted(c) + counted(d));
    maximum = larger;
  }
  let own = max(max(maximum.x, maximum.y), max(maximum.z, maximum.w));
  let places = select(vec4u(VOCABULARY), 4u * place + vec4u(0u, 1u, 2u, 3u), maximum == vec4f(own));
  let own_from_end = f32(VOCABULARY - min(min(places.x, places.y), min(places.z, places.w)));
  let shrink = exp_accurate4(maximum - own);
  let own_sum = components(sum * shrink);
  let own_moment = components((moment + (maximum - own) * sum) * shrink);
  let own_logits = components(sum_of_logits);
  maxima[local] = own;
  workgroupBarrier();
  if (local == 0u) {
    var most = maxima[0];
    for (var i = 1u; i < 64u; i += 1u) { most = max(most, maxima[i]); }
    largest = most;
  }
  workgroupBarrier();
  let fall = own - largest;
  let factor = exp_accurate(fall);
  let from_end = select(0.0, own_from_end, fall == 0.0);
  sums[local] = vec4f(own_sum * factor, (own_moment + fall * own_sum) * factor, own_logits, from_end);
  workgroupBarrier();
  if (local != 0u) { return; }
  var all = vec3f();
  var earliest = 0.0;
  for (var i = 0u; i < 64u; i += 1u) {
    all += sums[i].xyz;
    earliest = max(earliest, sums[i].w);
  }
  let l = largest + log(all.x);
  let target_id = targets[row];
  let logp = score(logits[row * STRIDE + target_id / 4u])[target_id % 4u] - l;
  lse[row] = l;
  logps[row] = logp;
  figures[row] = vec4f(
    log(all.x) - all.y / all.x,
    all.z / f32(VOCABULARY),
    select(0.0, 1.0, earliest == f32(VOCABULARY - target_id)),
    exp_accurate(logp),
  );
}
