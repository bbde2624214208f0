/**
 * Frequencies and tables of rotary position embedding (arXiv 2104.09864), by the rules of transformers'
 * modeling_rope_utils.
 */

/**
 * How queries and keys are rotated, told apart by how frequencies follow from theta. Lengths are in tokens; what a
 * value is where config.json does not say is decided in rope.ts.
 */
export type RopeSpec = {
  theta: number;
  /** How many floats of each head are rotated, the first ones; even. */
  dimensions: number;
  /** Pairs are floats 2i and 2i + 1, in place of i and i + dimensions / 2. */
  interleaved: boolean;
} & RopeScaling;

export type RopeScaling =
  /** theta^(-2i / dimensions). */
  | { type: "default" }
  /** Those divided by `factor`. */
  | { type: "linear"; factor: number }
  /**
   * theta grows with a sequence that is longer than `maxPositionEmbeddings`; `alpha` is Hunyuan's factor of it up to
   * there.
   */
  | { type: "dynamic"; factor: number; maxPositionEmbeddings: number; alpha?: number }
  /** YaRN (arXiv 2309.00071): long waves are divided by `factor`, short ones stay. */
  | {
    type: "yarn";
    factor: number;
    attentionFactor: number;
    betaFast: number;
    betaSlow: number;
    originalMaxPositionEmbeddings: number;
    truncate: boolean;
  }
  /** Waves longer than the original context are divided by `factor`, with a smooth passage. */
  | {
    type: "llama3";
    factor: number;
    lowFreqFactor: number;
    highFreqFactor: number;
    originalMaxPositionEmbeddings: number;
  }
  /** LongRoPE (arXiv 2402.13753): a divisor for each frequency, others for long sequences. */
  | {
    type: "longrope";
    attentionFactor: number;
    shortFactor: number[];
    longFactor: number[];
    originalMaxPositionEmbeddings: number;
  }
  /** As linear, but the exponents are those of whole heads, and only the first `angles` turn. */
  | { type: "proportional"; factor: number; angles: number };

const f32 = Math.fround;

/**
 * The length that the table of a batch is made for, where `longest` is that of its longest sequence: batches of equal
 * ones share a table. As in transformers' `dynamic_rope_update` for one forward pass of the batch, all of its
 * sequences are rotated alike, those too that alone would be short. (There "dynamic" also remembers the longest
 * sequence since the last one shorter than `maxPositionEmbeddings`; here a table follows from its batch alone, so
 * that a resumed run equals an unbroken one.)
 */
export function tableLength(rope: RopeSpec, longest: number): number {
  if (rope.type === "dynamic") return Math.max(longest, rope.maxPositionEmbeddings);
  if (rope.type === "longrope") return longest > rope.originalMaxPositionEmbeddings ? Infinity : 0;
  return 0;
}

/**
 * The `dimensions / 2` inverse frequencies, in radians per position, for a batch whose longest sequence has `longest`
 * tokens. Rounded to float32 wherever transformers rounds: at position 4096 one unit in the last place of a frequency
 * already turns the angle by 2e-4. (The power itself is not rounded alike everywhere: a frequency may differ in its
 * last bit.)
 */
export function ropeInverseFrequencies(rope: RopeSpec, longest = 0): Float64Array {
  const { theta, dimensions } = rope;
  /** theta^(2i / dimensions). */
  const powers = (base: number) =>
    Float64Array.from({ length: dimensions / 2 }, (_, i) => f32(f32(base) ** f32(2 * i / dimensions)));
  const inverse = (values: Float64Array) => values.map((value) => f32(1 / value));
  switch (rope.type) {
    case "default":
      return inverse(powers(theta));
    case "linear":
      return inverse(powers(theta)).map((frequency) => f32(frequency / f32(rope.factor)));
    case "dynamic":
      return inverse(powers(dynamicTheta(rope, longest)));
    case "yarn":
      return yarnFrequencies(rope, powers(theta));
    case "llama3":
      return llama3Frequencies(rope, inverse(powers(theta)));
    case "longrope": {
      const factors = tableLength(rope, longest) === 0 ? rope.shortFactor : rope.longFactor;
      return inverse(powers(theta).map((power, i) => f32(f32(factors[i]) * power)));
    }
    case "proportional":
      return inverse(powers(theta)).map((frequency, i) =>
        i < rope.angles ? f32(frequency / f32(rope.factor)) : 0
      );
  }
}

/**
 * In float64 for the length of the configuration, and in float32 for that of a batch, where transformers has it in a
 * tensor.
 */
function dynamicTheta(rope: RopeSpec & { type: "dynamic" }, longest: number): number {
  const { theta, dimensions, factor, maxPositionEmbeddings: most, alpha } = rope;
  const exponent = dimensions / (dimensions - 2);
  if (longest > most) {
    const stretched = f32(f32(f32(f32(factor) * longest) / most) - f32(factor - 1));
    return f32(f32(theta) * f32(stretched ** f32(exponent)));
  }
  return theta * (alpha ?? factor * most / most - (factor - 1)) ** exponent;
}

function yarnFrequencies(
  { theta, dimensions, factor, betaFast, betaSlow, originalMaxPositionEmbeddings, truncate }:
    & RopeSpec
    & { type: "yarn" },
  powers: Float64Array,
): Float64Array {
  /** The index of the frequency that turns so often over the original context. */
  const indexOf = (rotations: number) =>
    dimensions * Math.log(originalMaxPositionEmbeddings / (rotations * 2 * Math.PI)) / (2 * Math.log(theta));
  const [first, last] = truncate
    ? [Math.floor(indexOf(betaFast)), Math.ceil(indexOf(betaSlow))]
    : [indexOf(betaFast), indexOf(betaSlow)];
  const low = Math.max(first, 0);
  const high = Math.min(last, dimensions - 1);
  const span = f32(low === high ? high + 0.001 - low : high - low);
  return powers.map((power, i) => {
    const ramp = Math.min(Math.max(f32(f32(i - f32(low)) / span), 0), 1);
    const kept = f32(1 - ramp);
    const interpolated = f32(1 / f32(f32(factor) * power));
    return f32(f32(interpolated * f32(1 - kept)) + f32(f32(1 / power) * kept));
  });
}

function llama3Frequencies(rope: RopeSpec & { type: "llama3" }, frequencies: Float64Array): Float64Array {
  const [factor, low, context] = [rope.factor, rope.lowFreqFactor, rope.originalMaxPositionEmbeddings].map(
    f32,
  );
  const span = f32(rope.highFreqFactor - rope.lowFreqFactor);
  const shortest = f32(rope.originalMaxPositionEmbeddings / rope.highFreqFactor);
  const longest = f32(rope.originalMaxPositionEmbeddings / rope.lowFreqFactor);
  return frequencies.map((frequency) => {
    // PyTorch divides a number by a tensor as the tensor's reciprocal times the number: two roundings.
    const wavelength = f32(f32(1 / frequency) * f32(2 * Math.PI));
    if (wavelength < shortest) return frequency;
    if (wavelength > longest) return f32(frequency / factor);
    const rotations = f32(f32(1 / wavelength) * context);
    const smooth = f32(f32(rotations - low) / span);
    const scaled = f32(f32(f32(1 - smooth) * frequency) / factor);
    return f32(scaled + f32(smooth * frequency));
  });
}

/**
 * Cosines and sines for the positions 0 to `positions - 1` of a batch whose longest sequence has `longest` tokens:
 * one row of `dimensions` floats a position, the cosines of its `dimensions / 2` angles, then their sines, times the
 * scaling's attention factor. Angles are rounded to float32 as in transformers; the functions themselves are computed
 * in float64.
 */
export function ropeTable(rope: RopeSpec, positions: number, longest = 0): Float32Array<ArrayBuffer> {
  const { dimensions } = rope;
  const half = dimensions / 2;
  const factor = "attentionFactor" in rope ? rope.attentionFactor : 1;
  const frequencies = ropeInverseFrequencies(rope, longest);
  const table = new Float32Array(positions * dimensions);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = f32(position * frequencies[i]);
      table[position * dimensions + i] = Math.cos(angle) * factor;
      table[position * dimensions + half + i] = Math.sin(angle) * factor;
    }
  }
  return table;
}
