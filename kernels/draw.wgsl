// Draws the token that follows each label row which asks for it, as transformers does: penalties, temperature, top_k,
// top_p, min_p, one after the other; then by the Gumbel trick with random bits that follow from seed, place in the
// answer and token alone.
//
// What top_k and top_p leave out is found without sorting: floats are in the order of 32 bits, and of the tokens that
// have the same upper ones, 256 bins count how many, or how much, lie in each value of the next 8. Weights are whole
// numbers, so that the order in which threads add does not matter. Rows of logits are STRIDE floats long, of which
// VOCABULARY count; `score`, which stands before this text, scales and caps them. Grid: label rows.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> choices: array<Choice>;
// Of each token: how often the answer has it, and IN_PROMPT where the prompt does.
@group(0) @binding(3) var<storage, read_write> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> drawn: array<u32>;

const IN_PROMPT = 0x80000000u;
const LOWEST = -3.0e38;

// Of each thread.
var<workgroup> values: array<f32, THREADS>;
var<workgroup> tokens: array<u32, THREADS>;
// Of each bin: how many tokens, or their weights in units of 2^-30, as two words.
var<workgroup> low: array<atomic<u32>, 256>;
var<workgroup> high: array<atomic<u32>, 256>;
var<workgroup> pair: vec2u;

// After penalties and temperature.
fn adjusted(row: u32, token: u32) -> f32 {
  var logit = score(vec4f(logits[row * STRIDE + token])).x;
  if (choices[row].seen_row > 0u) {
    let mark = seen[(choices[row].seen_row - 1u) * VOCABULARY + token];
    let count = mark & ~IN_PROMPT;
    let repeated = select(logit * choices[row].repetition, logit / choices[row].repetition, logit > 0.0);
    logit = select(logit, repeated, mark > 0u) - select(0.0, choices[row].presence, count > 0u)
      - choices[row].frequency * f32(count);
  }
  let temperature = choices[row].temperature;
  return select(logit / temperature, logit, temperature == 0.0);
}

// Floats in their order as whole numbers.
fn key(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// Of a bin's two words.
fn size_of(low_word: u32, high_word: u32, by_weight: bool) -> f32 {
  let units = f32(low_word);
  return select(units, f32(high_word) * 4.0 + units / 1073741824.0, by_weight);
}

// -log of a random number between 0 and 1, of 32 random bits; near 1 the logarithm would lose its digits.
fn exponential(bits: u32) -> f32 {
  let rest = (f32(~bits) + 0.5) / 4294967296.0;
  let u = (f32(bits) + 0.5) / 4294967296.0;
  return select(-log(u), rest * (1.0 + rest * (0.5 + rest / 3.0)), rest < 0.01);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  let temperature = choices[row].temperature;
  if (!is_drawn(row)) { return; }
  let top_k = choices[row].top_k;
  let top_p = choices[row].top_p;
  let place = hash2(hash2(choices[row].seed) ^ vec2u(choices[row].place, 0x9e3779b9u));
  // The least key of those that are kept.
  var least = 0u;
  var largest = 0.0;
  var chosen = 0u;
  // First the largest, then, of those that are kept, the one that wins the race.
  for (var turn = 0u; turn < select(2u, 1u, temperature == 0.0); turn += 1u) {
    var most = LOWEST;
    var first = VOCABULARY;
    for (var token = local; token < VOCABULARY; token += THREADS) {
      var v = adjusted(row, token);
      if (turn == 1u) {
        let race = v - largest - log(exponential(hash2(place ^ vec2u(token, token * 0x85ebca6bu)).x));
        v = select(LOWEST, race, key(v) >= least);
      }
      let is_more = v > most;
      most = select(most, v, is_more);
      first = select(first, token, is_more);
    }
    values[local] = most;
    tokens[local] = first;
    workgroupBarrier();
    if (local == 0u) {
      for (var i = 1u; i < THREADS; i += 1u) {
        let is_better = values[i] > most || (values[i] == most && tokens[i] < first);
        most = select(most, values[i], is_better);
        first = select(first, tokens[i], is_better);
      }
      pair = vec2u(bitcast<u32>(most), first);
    }
    workgroupBarrier();
    let best = pair;
    chosen = best.y;
    largest = select(largest, bitcast<f32>(best.x), turn == 0u);
    // Four rounds each: tokens are kept from the largest on until there are top_k, and then until they have top_p of
    // the weights.
    var upper = 0u;
    var left = 0.0;
    let first_round = select(4u, 0u, top_k > 0u && top_k < VOCABULARY);
    let end_round = select(select(4u, 8u, top_p < 1.0), 0u, turn == 1u || temperature == 0.0);
    for (var round = first_round; round < end_round; round += 1u) {
      let by_weight = round >= 4u;
      let shift = 24u - 8u * (round % 4u);
      if (round % 4u == 0u) {
        upper = 0u;
        left = select(f32(top_k), top_p, by_weight);
      }
      for (var bin = local; bin < 256u; bin += THREADS) {
        atomicStore(&low[bin], 0u);
        atomicStore(&high[bin], 0u);
      }
      workgroupBarrier();
      for (var token = local; token < VOCABULARY; token += THREADS) {
        let v = adjusted(row, token);
        let k = key(v);
        // All are of the first round, where there would be a shift by 32, which is none.
        let is_of = round % 4u == 0u || k >> ((shift + 8u) & 31u) == upper >> ((shift + 8u) & 31u);
        if (is_of && k >= least) {
          let bin = (k >> shift) & 255u;
          let units = select(1u, u32(exp_accurate(v - largest) * 1073741824.0), by_weight);
          let before = atomicAdd(&low[bin], units);
          if (before > 0xffffffffu - units) { atomicAdd(&high[bin], 1u); }
        }
      }
      workgroupBarrier();
      if (local == 0u) {
        if (round == 4u) {
          var all = 0.0;
          for (var bin = 256u; bin > 0u; bin -= 1u) {
            all += size_of(atomicLoad(&low[bin - 1u]), atomicLoad(&high[bin - 1u]), true);
          }
          left *= all;
        }
        var at = 0u;
        var before = 0.0;
        var is_found = false;
        for (var bin = 256u; bin > 0u && !is_found; bin -= 1u) {
          let size = size_of(atomicLoad(&low[bin - 1u]), atomicLoad(&high[bin - 1u]), by_weight);
          // Sums of rounded weights may miss what is wanted by a little: then all are kept.
          if (size > 0.0) {
            at = bin - 1u;
            is_found = before + size >= left;
            before += select(size, 0.0, is_found);
          }
        }
        pair = vec2u(upper | (at << shift), bitcast<u32>(left - before));
      }
      workgroupBarrier();
      let found = pair;
      upper = found.x;
      left = bitcast<f32>(found.y);
      if (round % 4u == 3u) { least = upper; }
    }
    let min_p = choices[row].min_p;
    if (turn == 0u && min_p > 0.0) { least = max(least, key(largest + log(min_p))); }
  }
  if (local == 0u) {
    // Of what is no numbers none is chosen, and the host sees it by the token.
    drawn[row] = chosen;
    let seen_row = choices[row].seen_row;
    if (seen_row > 0u && chosen < VOCABULARY) { seen[(seen_row - 1u) * VOCABULARY + chosen] += 1u; }
  }
}
