import type { RotaryTable } from "../graph/net.ts";
import { isObject, show } from "../json.ts";
import type { ModelConfig } from "./architecture.ts";
import type { Fields } from "./fields.ts";

/** Rotary position embedding: lengths in tokens. */
export type RopeConfig =
  | { type: "default"; theta: number }
  | {
    type: "llama3";
    theta: number;
    factor: number;
    lowFreqFactor: number;
    highFreqFactor: number;
    originalMaxPositionEmbeddings: number;
  };

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
export function ropeTable(rope: RopeConfig, headDim: number, positions: number): Float32Array<ArrayBuffer> {
  const half = headDim / 2;
  const frequencies = ropeInverseFrequencies(rope, headDim);
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

/** The table of a model's layers. */
export const rotaryTable = ({ rope, headDim }: { rope: RopeConfig; headDim: number }): RotaryTable => ({
  dimensions: headDim,
  rows: (positions) => ropeTable(rope, headDim, positions),
});

const ROPE_TYPES = ["default", "llama3"];

/**
 * Follows RotaryEmbeddingConfigMixin of transformers: where both generations of keys are there, which one
 * counts.
 */
export function parseRope(top: Fields, { maxPositionEmbeddings }: ModelConfig): RopeConfig {
  const isFilled = (value: unknown) => value !== undefined && value !== null && !isEmptyObject(value);
  const key = isFilled(top.value("rope_scaling")) ? "rope_scaling" : "rope_parameters";
  const value = top.value(key) ?? {};
  const theta = top.positive("rope_theta", 10_000);
  if (!isObject(value)) {
    top.problem(`${key}: expected an object, found ${show(value)}`);
    return { type: "default", theta };
  }
  const fields = top.of(key, value);
  const ropeTheta = fields.positive("rope_theta", theta);
  if (isFilled(value.full_attention) || isFilled(value.sliding_attention)) {
    top.problem(`${key}: a set for each layer type is not supported yet`);
  }
  const partial = value.partial_rotary_factor ?? top.value("partial_rotary_factor") ?? 1;
  if (partial !== 1) {
    top.problem(`partial_rotary_factor: ${show(partial)} is not supported yet; supported: 1`);
  }
  const typeKey = value.rope_type === undefined ? "type" : "rope_type";
  if (fields.oneOf(typeKey, ROPE_TYPES, "default") !== "llama3") return { type: "default", theta: ropeTheta };

  const factor = fields.positive("factor");
  const lowFreqFactor = fields.positive("low_freq_factor");
  const highFreqFactor = fields.positive("high_freq_factor");
  if (highFreqFactor <= lowFreqFactor) {
    top.problem(
      `${key}.high_freq_factor must be greater than low_freq_factor ${lowFreqFactor}, ` +
        `found ${highFreqFactor}`,
    );
  }
  const inside = fields.count("original_max_position_embeddings", 2 ** 31, maxPositionEmbeddings);
  return {
    type: "llama3",
    theta: ropeTheta,
    factor,
    lowFreqFactor,
    highFreqFactor,
    originalMaxPositionEmbeddings: top.count("original_max_position_embeddings", 2 ** 31, inside),
  };
}

function isEmptyObject(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length === 0;
}
