import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { parseModelConfig } from "../../lib/models/config.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import { ropeInverseFrequencies, ropeTable } from "../../lib/models/rope.ts";
import { assertEqualBytes } from "../equal_bytes.ts";

interface Golden {
  head_dim: number;
  rope_parameters: { rope_type: string; rope_theta: number; factor?: number };
  inv_freq: number[];
  rows: { position: number; cos: number[]; sin: number[] }[];
}

const golden: Golden[] = JSON.parse(
  await readFile(new URL("../golden/files/rope.json", import.meta.url), "utf8"),
);

for (const { head_dim, rope_parameters, inv_freq, rows } of golden) {
  const name = `${rope_parameters.rope_type} of head_dim ${head_dim}, factor ${
    rope_parameters.factor ?? "none"
  }`;
  const config = parseModelConfig(
    { model_type: "llama", hidden_size: 4 * head_dim, num_attention_heads: 4, head_dim, rope_parameters },
    "config.json",
  ) as LlamaConfig;

  Deno.test(`ropeInverseFrequencies() equals transformers bit by bit: ${name}`, () => {
    assert.deepEqual([...ropeInverseFrequencies(config.rope, head_dim)], inv_freq);
  });

  Deno.test(`ropeTable() is within one rounding of transformers up to position 4095: ${name}`, () => {
    const table = ropeTable(config.rope, head_dim, 4096);
    assert.equal(table.length, 4096 * head_dim);
    for (const { position, cos, sin } of rows) {
      const row = table.subarray(position * head_dim, (position + 1) * head_dim);
      for (const [i, expected] of [...cos, ...sin].entries()) {
        // One unit in the last place of a float32 between 0.5 and 1 is 6e-8.
        assert.ok(
          Math.abs(row[i] - expected) <= 6e-8,
          `position ${position}, ${i}: ${row[i]}, not ${expected}`,
        );
      }
    }
  });
}

Deno.test("ropeTable() does not depend on how many positions it has", () => {
  const rope = { type: "default", theta: 10_000 } as const;
  assertEqualBytes(ropeTable(rope, 16, 9).subarray(0, 5 * 16), ropeTable(rope, 16, 5));
  assert.equal(ropeTable(rope, 16, 0).length, 0);
});
