// Figures of each response from those of its labels, in a fixed order. One workgroup a response, of which a pair has
// two.
// Writes responses[response] = (sum of entropies, sum of mean logits, labels that are the most probable token,
// probability of the first label that is END, which is where an answer would end, or -1 where none is). Grid: responses
// (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> labels_of_response: array<vec2u>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> figures: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> responses: array<vec4f>;
var<workgroup> partial: array<vec3f, 64>;
var<workgroup> ends: array<u32, 64>;

const NONE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let response = group.y * groups.x + group.x;
  if (response >= 2u * rows.count) { return; }
  let labels = labels_of_response[response];
  var sum = vec3f();
  var end = NONE;
  for (var l = labels.x + local; l < labels.y; l += 64u) {
    sum += figures[l].xyz;
    if (targets[l] == END) { end = min(end, l); }
  }
  partial[local] = sum;
  ends[local] = end;
  workgroupBarrier();
  if (local != 0u) { return; }
  var all = vec3f();
  for (var i = 0u; i < 64u; i += 1u) {
    all += partial[i];
    end = min(end, ends[i]);
  }
  var ends_there = -1.0;
  if (end != NONE) { ends_there = figures[end].w; }
  responses[response] = vec4f(all, ends_there);
}
