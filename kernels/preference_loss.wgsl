// A preference loss from the log-probabilities of a pair's labels. The text of the loss itself is put before this file:
//   fn preference_loss(chosen: Response, rejected: Response) -> Loss
// One workgroup a pair; sums in a fixed order. `rows.scale` is 1 / (pairs of the optimizer step).
// references[pair] = (the reference's sum of chosen, of rejected, 1 where a judged response is desirable, 0).
// squares[label] = the logarithm of the sum of the squares of its distribution's probabilities, read by USES_WEIGHTING.
// Where the loss or a sum is not finite, dL is NaN, so that the step's update is not made.
// Writes results[pair] = (value, sum of chosen, sum of rejected, KTO's kl) and weights[label] = dL/d(log-probability).
// Grid: pairs (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> labels_of_pair: array<vec4u>;
@group(0) @binding(2) var<storage, read> references: array<vec4f>;
@group(0) @binding(3) var<storage, read> logps: array<f32>;
@group(0) @binding(4) var<storage, read> targets: array<u32>;
@group(0) @binding(5) var<storage, read> squares: array<f32>;
@group(0) @binding(6) var<storage, read_write> weights: array<f32>;
@group(0) @binding(7) var<storage, read_write> results: array<vec4f>;
var<workgroup> partial: array<vec4f, 64>;
var<workgroup> gradient: vec2f;
// REFA's: the label of chosen's end token, or its end where there is none, and the term's derivative.
var<workgroup> end: u32;
var<workgroup> end_gradient: f32;

// By the exponent's bits, since drivers may assume that no NaN exists.
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let pair = group.y * groups.x + group.x;
  if (pair >= rows.count) { return; }
  let labels = labels_of_pair[pair];
  let shorter = min(labels.y - labels.x, labels.w - labels.z);
  var sum = vec2f();
  // WPO's: how likely the tokens are beside those that the policy would draw.
  var aligned = vec2f();
  for (var l = labels.x + local; l < labels.y; l += 64u) {
    sum.x += logps[l] * share(l, labels.x, shorter);
    if (USES_WEIGHTING) { aligned.x += logps[l] - squares[l]; }
  }
  for (var l = labels.z + local; l < labels.w; l += 64u) {
    sum.y += logps[l] * share(l, labels.z, shorter);
    if (USES_WEIGHTING) { aligned.y += logps[l] - squares[l]; }
  }
  partial[local] = vec4f(sum, aligned);
  workgroupBarrier();
  if (local == 0u) {
    var all = vec4f();
    for (var i = 0u; i < 64u; i += 1u) { all += partial[i]; }
    let counts = vec2f(f32(labels.y - labels.x), f32(labels.w - labels.z));
    let reference = references[pair];
    own_pair = pair;
    desirable = reference.z > 0.5;
    var loss = preference_loss(Response(all.x, counts.x, reference.x), Response(all.y, counts.y, reference.y));
    if (USES_WEIGHTING) {
      let means = all.zw / max(counts, vec2f(1.0));
      let weight = exp_accurate(means.x + means.y);
      loss = Loss(weight * loss.value, weight * loss.d_chosen, weight * loss.d_rejected);
    }
    if (REFA_LAMBDA != 0.0) {
      var first = labels.y;
      for (var l = labels.y; l > labels.x; l -= 1u) { if (targets[l - 1u] == END) { first = l - 1u; } }
      if (first < labels.y) {
        let term = REFA_LAMBDA * exp_accurate(logps[first]);
        loss.value += term;
        end_gradient = term * rows.scale;
      }
      end = first;
    }
    results[pair] = vec4f(loss.value, all.xy, kl);
    gradient = vec2f(loss.d_chosen, loss.d_rejected) * rows.scale;
    // A figure that is not finite may have a gradient that is, such as exp(-inf) = 0: NaN makes the gradient norm know.
    if (!(is_finite(loss.value) && is_finite(all.x) && is_finite(all.y))) {
      gradient = vec2f(bitcast<f32>(rows.count | 0x7fc00000u));
    }
  }
  workgroupBarrier();
  for (var l = labels.x + local; l < labels.y; l += 64u) {
    weights[l] = gradient.x * share(l, labels.x, shorter);
    if (REFA_LAMBDA != 0.0 && l == end) { weights[l] += end_gradient; }
  }
  for (var l = labels.z + local; l < labels.w; l += 64u) { weights[l] = gradient.y * share(l, labels.z, shorter); }
}
