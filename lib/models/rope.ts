import type { ModelConfig, RopeConfig } from "./config.ts";

/**
 * The `headDim / 2` inverse frequencies of rotary position embedding, in radians per position, by the rules
 * of transformers' modeling_rope_utils: "default" is theta^(-2i / headDim); "llama3" divides those whose
 * wavelength is longer than the original context by `factor`, and passes over smoothly. Rounded to float32
 * wherever transformers rounds: at position 4096 one unit in the last place of a frequency already turns the
 * angle by 2e-4. (The power itself is not rounded alike everywhere: a frequency may differ in its last bit.)
 */
export function ropeInverseFrequencies(rope: RopeConfig, headDim: number): Float64Array {
  const f32 = Math.fround;
  const frequencies = Float64Array.from(
    { length: headDim / 2 },
    (_, i) => f32(1 / f32(f32(rope.theta) ** f32(2 * i / headDim))),
  );
  if (rope.type === "default") return frequencies;

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
 * Cosines and sines for the positions 0 to `positions - 1`: one row of `headDim` floats a position, the
 * cosines of its `headDim / 2` angles, then their sines. Angles are rounded to float32 as in transformers;
 * the functions themselves are computed in float64.
 */
export function ropeTable(config: ModelConfig, positions: number): Float32Array<ArrayBuffer> {
  const { headDim } = config;
  const half = headDim / 2;
  const frequencies = ropeInverseFrequencies(config.rope, headDim);
  const table = new Float32Array(positions * headDim);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * frequencies[i]);
      table[position * headDim + i] = Math.cos(angle);
      table[position * headDim + half + i] = Math.sin(angle);
    }
  }
  return table;
}
