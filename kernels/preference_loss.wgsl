// A preference loss from the log-probabilities of a pair's labels. The text of the loss itself is put before this file:
//   fn preference_loss(chosen: Response, rejected: Response) -> Loss
// One workgroup a pair; sums in a fixed order. `rows.scale` is 1 / (pairs of the optimizer step).
// Where the loss or a sum is not finite, dL is NaN, so that the step's update is not made.
// Writes results[pair] = (value, sum of chosen, sum of rejected, 0) and weights[label] = dL/d(log-probability).
// Grid: pairs (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> labels_of_pair: array<vec4u>;
@group(0) @binding(2) var<storage, read> references: array<vec4f>;
@group(0) @binding(3) var<storage, read> logps: array<f32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> results: array<vec4f>;
var<workgroup> partial: array<vec2f, 64>;
var<workgroup> gradient: vec2f;

// By the exponent's bits, since drivers may assume that no NaN exists.
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let pair = group.y * groups.x + group.x;
  if (pair >= rows.count) { return; }
  let labels = labels_of_pair[pair];
  var sum = vec2f();
  for (var l = labels.x + local; l < labels.y; l += 64u) { sum.x += logps[l]; }
  for (var l = labels.z + local; l < labels.w; l += 64u) { sum.y += logps[l]; }
  partial[local] = sum;
  workgroupBarrier();
  if (local == 0u) {
    var all = vec2f();
    for (var i = 0u; i < 64u; i += 1u) { all += partial[i]; }
    let reference = references[pair];
    let loss = preference_loss(
      Response(all.x, f32(labels.y - labels.x), reference.x),
      Response(all.y, f32(labels.w - labels.z), reference.y),
    );
    results[pair] = vec4f(loss.value, all, 0.0);
    gradient = vec2f(loss.d_chosen, loss.d_rejected) * rows.scale;
    // A figure that is not finite may have a gradient that is, such as exp(-inf) = 0: NaN makes the gradient norm know.
    if (!(is_finite(loss.value) && is_finite(all.x) && is_finite(all.y))) {
      gradient = vec2f(bitcast<f32>(rows.count | 0x7fc00000u));
    }
  }
  workgroupBarrier();
  for (var l = labels.x + local; l < labels.y; l += 64u) { weights[l] = gradient.x; }
  for (var l = labels.z + local; l < labels.w; l += 64u) { weights[l] = gradient.y; }
}
