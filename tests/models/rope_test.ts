import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { parseModelConfig } from "../../lib/models/config.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import { Fields } from "../../lib/models/fields.ts";
import { parseRope, parseRopes, type RopeClass } from "../../lib/models/rope.ts";
import { ropeInverseFrequencies, type RopeSpec, ropeTable, tableLength } from "../../lib/graph/rope_table.ts";
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
    assert.deepEqual([...ropeInverseFrequencies(config.rope)], inv_freq);
  });

  Deno.test(`ropeTable() is within one rounding of transformers up to position 4095: ${name}`, () => {
    const table = ropeTable(config.rope, 4096);
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
  const config = parseModelConfig(
    { model_type: "llama", hidden_size: 64, num_attention_heads: 4 },
    "config.json",
  ) as LlamaConfig;
  assertEqualBytes(ropeTable(config.rope, 9).subarray(0, 5 * 16), ropeTable(config.rope, 5));
  assert.equal(ropeTable(config.rope, 0).length, 0);
});

type Config = Record<string, unknown>;
type Found = Record<string, { inv_freq: number[]; attention_factor: number }>;

/** What each class of transformers has of its own; by layer type where it has several. */
const CLASSES: Record<string, Partial<RopeClass> | Record<string, Partial<RopeClass>>> = {
  llama: {},
  phi3: { partial: 1, originalMaxPositionEmbeddings: 4096, longropeNames: ["su", "yarn"] },
  gpt_neox: { thetaKey: "rotary_emb_base", partialKey: "rotary_pct", partial: 0.25 },
  phi: { partial: 0.5 },
  gemma3_text: {
    full_attention: { theta: 1_000_000 },
    sliding_attention: { theta: 10_000, thetaKey: "rope_local_base_freq" },
  },
  olmo3: { full_attention: { theta: 500_000 }, sliding_attention: { theta: 500_000, thetaKey: null } },
  hunyuan_v1_dense: { alpha: true },
};

function parsed(config: Config): { specs: Record<string, RopeSpec>; problems: string[] } {
  const fields = new Fields(config);
  const of = {
    headDim: Number(config.head_dim ?? Number(config.hidden_size) / Number(config.num_attention_heads)),
    maxPositionEmbeddings: Number(config.max_position_embeddings ?? 2048),
  };
  const known = CLASSES[String(config.model_type)];
  if (!("full_attention" in known)) {
    return { specs: { all: parseRope(fields, { ...of, ...known }) }, problems: fields.problems };
  }
  const classes = Object.fromEntries(Object.entries(known).map(([name, own]) => [name, { ...of, ...own }]));
  return { specs: parseRopes(fields, classes), problems: fields.problems };
}

const types: { name: string; config: Config; forwards: Record<string, Found> }[] = JSON.parse(
  await readFile(new URL("../golden/files/rope_types.json", import.meta.url), "utf8"),
);

for (const { name, config, forwards } of types) {
  Deno.test(`parseRope() and its table equal transformers (golden/files/make_rope_types.py): ${name}`, () => {
    const { specs, problems } = parsed(config);
    assert.deepEqual(problems, []);
    for (const [length, found] of Object.entries(forwards)) {
      for (const [layerType, { inv_freq, attention_factor }] of Object.entries(found)) {
        const spec = specs[layerType];
        const frequencies = ropeInverseFrequencies(spec, Number(length));
        // A power may differ in its last bit, and a theta that has grown is one too.
        const powers = spec.type === "dynamic" ? 2 : 1;
        assert.equal(spec.dimensions, 2 * inv_freq.length);
        for (const [i, expected] of inv_freq.entries()) {
          const error = Math.abs(frequencies[i] - expected);
          assert.ok(
            error <= powers * 1.2e-7 * expected,
            `length ${length}, ${i}: ${frequencies[i]}, not ${expected}`,
          );
        }
        const table = ropeTable(spec, 3, Number(length));
        const half = inv_freq.length;
        for (const [i, frequency] of inv_freq.entries()) {
          const row = table.subarray(2 * 2 * half);
          assert.ok(Math.abs(row[i] - attention_factor * Math.cos(2 * frequency)) <= 5e-7);
          assert.ok(Math.abs(row[half + i] - attention_factor * Math.sin(2 * frequency)) <= 5e-7);
        }
      }
    }
    // Where transformers has one table for all lengths, so has this, and the other way round.
    const lengths = [8, 32, 33, 100].map((length) =>
      Object.values(specs).map((spec) => tableLength(spec, length)).join()
    );
    if (Object.keys(forwards).length === 1) assert.equal(new Set(lengths).size, 1, name);
    else assert.ok(new Set(lengths).size > 1, name);
  });
}

Deno.test("parseRopes() refuses longrope of a layer type, with which transformers fails at the second long sequence", () => {
  const set = { rope_type: "longrope", short_factor: Array(8).fill(1), long_factor: Array(8).fill(2) };
  for (const model_type of ["gemma3_text", "olmo3"]) {
    const rope_parameters = { full_attention: set, sliding_attention: { rope_type: "default" } };
    const [problem, ...others] = parsed({ model_type, head_dim: 16, rope_parameters }).problems;
    assert.match(problem, /^rope_parameters\.full_attention\.rope_type: "longrope" is not supported/);
    assert.deepEqual(others, []);
  }
});

Deno.test("parseRope() names the key of each value that cannot be computed with", () => {
  const problems = (rope_scaling: unknown, keys: Config = {}) =>
    parsed({ model_type: "llama", head_dim: 16, ...keys, rope_scaling }).problems;
  const number = "expected a number above 0 within the range of float32";
  for (const type of ["linear", "dynamic", "yarn"]) {
    assert.deepEqual(problems({ type }), [`rope_scaling.factor: ${number}, found nothing`]);
  }
  assert.deepEqual(problems({ type: "longrope", short_factor: [1], long_factor: Array(8).fill(0) }), [
    "rope_scaling.short_factor: expected 8 numbers above 0 within the range of float32, found [1]",
    "rope_scaling.long_factor: expected 8 numbers above 0 within the range of float32, found [0, 0, 0, 0, 0, 0, 0, 0]",
  ]);
  assert.deepEqual(problems({ type: "yarn", factor: 2, truncate: 1, mscale: -1, beta_fast: "32" }), [
    `rope_scaling.mscale: ${number}, found -1`,
    `rope_scaling.beta_fast: ${number}, found "32"`,
    "rope_scaling.truncate: expected true or false, found 1",
  ]);
  assert.deepEqual(problems({ type: "linear", factor: 2, partial_rotary_factor: 0.5 }), [
    "partial_rotary_factor: 0.5 is not supported with linear: heads are rotated whole",
  ]);
  assert.deepEqual(problems({ type: "yarn", factor: 2 }, { rope_theta: 1 }), [
    "rope_scaling.type: yarn gives frequencies that are no finite numbers with the keys beside it",
  ]);
  const phi = { model_type: "phi", partial_rotary_factor: 0.45 };
  assert.deepEqual(problems(undefined, phi), [
    "head_dim 16: 7 numbers of each head are rotated: expected an even number",
  ]);
  assert.deepEqual(problems(undefined, { ...phi, partial_rotary_factor: 1.5 }), [
    "partial_rotary_factor: expected a number up to 1, found 1.5",
  ]);
  const gemma = { model_type: "gemma3_text", rope_parameters: { rope_type: "default" } };
  assert.deepEqual(problems(undefined, gemma), [
    'rope_parameters.rope_type: expected an object for each of full_attention, sliding_attention, found "default"',
  ]);
});
