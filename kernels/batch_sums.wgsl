// The sums of each pair's log-probabilities, as preference_loss.wgsl has them, for losses that look at all pairs of a
// batch. One workgroup a pair; sums in a fixed order. Writes sums[pair] = (sum of chosen, sum of rejected). Grid:
// pairs (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> labels_of_pair: array<vec4u>;
@group(0) @binding(2) var<storage, read> logps: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec2f>;
var<workgroup> partial: array<vec2f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let pair = group.y * groups.x + group.x;
  if (pair >= rows.count) { return; }
  let labels = labels_of_pair[pair];
  let shorter = min(labels.y - labels.x, labels.w - labels.z);
  var sum = vec2f();
  for (var l = labels.x + local; l < labels.y; l += 64u) { sum.x += logps[l] * share(l, labels.x, shorter); }
  for (var l = labels.z + local; l < labels.w; l += 64u) { sum.y += logps[l] * share(l, labels.z, shorter); }
  partial[local] = sum;
  workgroupBarrier();
  if (local != 0u) { return; }
  var all = vec2f();
  for (var i = 0u; i < 64u; i += 1u) { all += partial[i]; }
  sums[pair] = all;
}
