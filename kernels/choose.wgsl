// What follows each of a pass's label rows, and how likely the model holds it: the likeliest token, unless
// `draw.wgsl` has drawn one or one is to be told; of all, log-probabilities by the logits as they are. Rows of logits
// are STRIDE vec4s long, of which VOCABULARY floats count; `score`, which stands before this text, scales and caps
// them. Grid: label rows.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> choices: array<Choice>;
@group(0) @binding(3) var<storage, read> label_rows: array<u32>;
@group(0) @binding(4) var<storage, read> drawn: array<u32>;
@group(0) @binding(5) var<storage, read_write> ids: array<u32>;
// RESULT words each: the token, its log-probability, and as much of each of the likeliest.
@group(0) @binding(6) var<storage, read_write> results: array<u32>;

// Of each thread.
var<workgroup> values: array<f32, THREADS>;
var<workgroup> tokens: array<u32, THREADS>;
// The likeliest tokens, as bits of the logit and the token.
var<workgroup> found: array<vec2u, MOST_TOP>;

const LOWEST = -3.0e38;

fn past(i: u32) -> vec4<bool> { return vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) >= vec4u(VOCABULARY); }
fn logit(row: u32, i: u32) -> vec4f { return select(score(logits[row * STRIDE + i]), vec4f(LOWEST), past(i)); }

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  let top = choices[row].top;
  // The likeliest, then the likeliest of those that come after it, and so on; of equals the first token comes first.
  for (var n = 0u; n < max(top, 1u); n += 1u) {
    var before = 3.0e38;
    var before_token = 0u;
    if (n > 0u) {
      before = bitcast<f32>(found[n - 1u].x);
      before_token = found[n - 1u].y;
    }
    var most = vec4f(LOWEST);
    var place = vec4u(STRIDE);
    for (var i = local; i < STRIDE; i += THREADS) {
      let v = logit(row, i);
      let token = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u);
      let is_left = (v < vec4f(before)) | ((v == vec4f(before)) & (token > vec4u(before_token)));
      let is_more = is_left & (v > most);
      place = select(place, vec4u(i), is_more);
      most = select(most, v, is_more);
    }
    let own = max(max(most.x, most.y), max(most.z, most.w));
    let places = select(vec4u(VOCABULARY), 4u * place + vec4u(0u, 1u, 2u, 3u), most == vec4f(own));
    values[local] = own;
    tokens[local] = min(min(places.x, places.y), min(places.z, places.w));
    workgroupBarrier();
    if (local == 0u) {
      var largest = values[0];
      var first = tokens[0];
      for (var i = 1u; i < THREADS; i += 1u) {
        let is_better = values[i] > largest || (values[i] == largest && tokens[i] < first);
        largest = select(largest, values[i], is_better);
        first = select(first, tokens[i], is_better);
      }
      found[n] = vec2u(bitcast<u32>(largest), first);
    }
    workgroupBarrier();
  }
  let largest = bitcast<f32>(found[0].x);
  var sum = vec4f();
  for (var i = local; i < STRIDE; i += THREADS) {
    sum += select(exp_accurate4(logit(row, i) - largest), vec4f(), past(i));
  }
  values[local] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  if (local > 0u) { return; }
  var all = 0.0;
  for (var i = 0u; i < THREADS; i += 1u) { all += values[i]; }
  let lse = largest + log(all);
  // Of logits that are no numbers none is the largest: the host sees it by the token.
  let told = choices[row].token;
  let token = select(select(found[0].y, drawn[row], is_drawn(row)), told - 1u, told > 0u);
  let known = min(token, VOCABULARY - 1u);
  let at = choices[row].result * RESULT;
  ids[label_rows[row]] = token;
  results[at] = token;
  results[at + 1u] = bitcast<u32>(score(logits[row * STRIDE + known / 4u])[known % 4u] - lse);
  for (var n = 0u; n < top; n += 1u) {
    results[at + 2u + 2u * n] = found[n].y;
    results[at + 3u + 2u * n] = bitcast<u32>(bitcast<f32>(found[n].x) - lse);
  }
}
