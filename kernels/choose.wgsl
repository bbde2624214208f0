// The most likely token by a row of logits, the first of equals as torch.argmax: it is what the next pass begins with, and is kept
// at its position, which is the number of keys. Rows of logits are STRIDE vec4s long, of which VOCABULARY floats count; `score`,
// which stands before this text, scales and caps them. Grid: one workgroup.
@group(0) @binding(0) var<uniform> key_rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> next: array<u32>;
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;
// Of each thread: its maximum, and the first token that has it.
var<workgroup> maxima: array<f32, 256>;
var<workgroup> tokens: array<u32, 256>;

const LOWEST = vec4f(-3.0e38);

fn logit(i: u32) -> vec4f {
  let past = vec4u(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) >= vec4u(VOCABULARY);
  return select(score(logits[i]), LOWEST, past);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
  var maximum = LOWEST;
  var place = vec4u();
  for (var i = local; i < STRIDE; i += 256u) {
    let v = logit(i);
    place = select(place, vec4u(i), v > maximum);
    maximum = max(maximum, v);
  }
  let own = max(max(maximum.x, maximum.y), max(maximum.z, maximum.w));
  let places = select(vec4u(VOCABULARY), 4u * place + vec4u(0u, 1u, 2u, 3u), maximum == vec4f(own));
  maxima[local] = own;
  tokens[local] = min(min(places.x, places.y), min(places.z, places.w));
  workgroupBarrier();
  if (local > 0u) { return; }
  var best = maxima[0];
  var token = tokens[0];
  for (var i = 1u; i < 256u; i += 1u) {
    let isBetter = maxima[i] > best || (maxima[i] == best && tokens[i] < token);
    best = select(best, maxima[i], isBetter);
    token = select(token, tokens[i], isBetter);
  }
  next[0] = token;
  chosen[key_rows.count] = token;
}
