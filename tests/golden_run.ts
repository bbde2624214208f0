/** The golden runs of tests/golden/llama (its make.sh says how they were made) and how far figures are from them. */
import assert from "node:assert/strict";
import { openSafetensors } from "../lib/safetensors/read.ts";
import type { Pair, Sequence } from "../lib/data/pair.ts";

export const GOLDEN = "tests/golden/llama";
/**
 * An untied float32 model; a tied bfloat16 one in three shards with llama3 rotary scaling; Mistral with a window of
 * 20; one whose padding token occurs.
 */
export const MODELS = [
  "untied",
  "tied-llama3-bf16-sharded",
  "sliding-window",
  "padding",
];

export interface Golden {
  log: Record<string, number>[];
  /** As lib/data/pairs.ts must give them, in the order of the file. */
  pairs: Pair[];
}

export async function readGolden(model: string): Promise<Golden> {
  const { log, pairs } = JSON.parse(await Deno.readTextFile(`${GOLDEN}/${model}-golden/golden.json`));
  const sequence = (pair: Record<string, number[]>, name: string): Sequence => ({
    ids: pair[`${name}_input_ids`],
    promptLength: pair[`${name}_labels`].findIndex((label) => label !== -100),
  });
  return {
    log,
    pairs: pairs.map((pair: Record<string, number[]>) => ({
      chosen: sequence(pair, "chosen"),
      rejected: sequence(pair, "rejected"),
      truncated: false,
      where: "golden",
    })),
  };
}

/** All tensors of a safetensors file. */
export async function readTensors(path: string): Promise<Map<string, Float32Array>> {
  const file = await openSafetensors(path);
  try {
    const names = [...file.tensors.keys()];
    return new Map(await Promise.all(names.map(async (name) => [name, await file.readF32(name)] as const)));
  } finally {
    await file.close();
  }
}

/** Largest difference, relative to the largest expected magnitude. */
export function relativeDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(found.length, expected.length);
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    // The negated comparison lets a NaN through to the result.
    if (!(Math.abs(found[i] - expected[i]) <= difference)) difference = Math.abs(found[i] - expected[i]);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return difference / (scale || 1);
}
