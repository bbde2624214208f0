// What the norms' kernels share. A row is cut into HEADS parts of QUERY elements, KEYS of KEY elements, and as many
// again that are not normed: the values of [queries, keys, values]. A whole row is one part. Weights lie as parts do
// where EACH is 1, or one for the first kind of part before one for the second. Statistics of each part: 1/rms, or
// the mean and then 1/deviation where LAYER is 1.
const NORMED = HEADS + KEYS;
const PARTS = NORMED + KEYS;
const STRIDE = HEADS * QUERY + 2u * KEYS * KEY;

fn part_columns(part: u32) -> u32 { return select(QUERY, KEY, part >= HEADS); }
fn part_start(part: u32) -> u32 {
  return select(part * QUERY, HEADS * QUERY + (part - HEADS) * KEY, part >= HEADS);
}
fn weight_start(part: u32) -> u32 {
  if (EACH == 1u) { return part_start(part); }
  return select(0u, QUERY, part >= HEADS);
}

// The mean, 0 of RMSNorm, and the factor of a row's part.
struct Statistics { mean: f32, factor: f32 }
fn normalized(e: E, s: Statistics) -> E {
  if (LAYER == 1u) { return (e - s.mean) * s.factor; }
  return e * s.factor;
}

var<workgroup> of_threads: array<f32, 64>;

// Of eight threads that work on a part, here of eight parts.
fn sum_of_part(local: vec3u, value: f32) -> f32 {
  // What the sum before reads.
  if (LAYER == 1u) { workgroupBarrier(); }
  of_threads[local.y * 8u + local.x] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += of_threads[local.y * 8u + i]; }
  return sum;
}
