/**
 * Moments in bytes and weights in bfloat16: bytes of bitsandbytes, updates of float64, and rounding with an exact
 * mean.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dynamicMap } from "../../kernels/dynamic_map.ts";
import { adamw as adamwRule } from "../../lib/optimizers/adamw.ts";
import { lion as lionRule } from "../../lib/optimizers/lion.ts";
import type { TrainedParameter } from "../../lib/parameters/parameters.ts";
import { type OptimizerChoice, optimizerOf } from "../../lib/planning/plan.ts";
import { normal } from "../../lib/random.ts";
import { fromF32 } from "../../lib/safetensors/dtype.ts";
import type { OptimizerOptions } from "../../lib/training/optimizer.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { adamw, type AdamWState } from "../reference/adamw.ts";
import { lion } from "../reference/lion.ts";
import { dequantized, firstNotNearest, largest } from "../reference/moments_8bit.ts";
import { assertClose, deviceTest, freshSeed, useGpu } from "./harness.ts";
import { countOf, goldenNumbers, optimizer, spec } from "./optimizer.ts";

useGpu();

const OPTIONS: OptimizerOptions = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-6,
  weightDecay: 0.1,
  maxGradNorm: 0,
};
const LEARNING_RATE = 0.01;
const MAPS = { first: dynamicMap(true), second: dynamicMap(false) };
const IN_BYTES = { first: "8bit", second: "8bit" } as const;

for (const [optim, name] of [["adamw_8bit", "AdamW8bit"], ["lion_8bit", "Lion8bit"]] as const) {
  deviceTest(
    `moments in bytes are those of bitsandbytes' ${name}, and so are the weights`,
    async (pipelines) => {
      const golden = JSON.parse(await readFile(`tests/golden/optimizers/${optim}.json`, "utf8"));
      const bytes = (text: string) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      const floats = (text: string) => new Float32Array(bytes(text).buffer);
      assert.deepEqual([MAPS.first, MAPS.second], golden.maps.map(floats));
      const { rows, columns } = golden;
      const choice = optimizerOf({ optim });
      const { moments } = choice.rule;
      const { plan, list: [parameter], write, read, codes, absmax, update } = await optimizer(
        pipelines,
        [spec("weight", rows, columns)],
        choice,
        OPTIONS,
      );
      const count = rows * columns;
      write(parameter.weights, goldenNumbers(count, 0, 0));
      let others = 0;
      for (const [i, expected] of golden.steps.entries()) {
        update(i + 1, [goldenNumbers(count, i + 1, 4)], LEARNING_RATE);
        for (const [m, { kind }] of moments.entries()) {
          const found = await codes(parameter, kind);
          bytes(expected[`state${m + 1}`]).forEach((code, e) => {
            // A share next to a border may be rounded to the other side.
            assert.ok(Math.abs(found[e] - code) <= 1, `step ${i + 1}, ${kind} ${e}: ${found[e]}, ${code}`);
            if (found[e] !== code) others++;
          });
          assertClose(
            (await absmax(parameter)).filter((_, at) => at % moments.length === m),
            floats(expected[`absmax${m + 1}`]),
            { tolerance: 1e-6 },
            `step ${i + 1}: absmax of ${kind}`,
          );
        }
      }
      assert.ok(others <= 5, `${others} of ${golden.steps.length * moments.length * count} bytes are others`);
      assertClose(
        await read(parameter.weights, count),
        floats(golden.weights),
        { tolerance: 1e-5 },
        "weights",
      );
      plan.destroy();
    },
  );
}

/** With a tail of less than a block, one below bitsandbytes' size, one whose rows are no multiple of 4, and a norm. */
const SPECS = [
  spec("norm", 1, 5000, "norm"),
  spec("large", 1101, 12),
  spec("odd", 1000, 5),
  spec("small", 31, 132),
  spec("another", 64, 64),
];

const CHOICES: OptimizerChoice[] = [
  { rule: adamwRule, trained: "f32", moments: IN_BYTES },
  { rule: adamwRule, trained: "bf16", moments: IN_BYTES },
  { rule: lionRule, trained: "f32", moments: { first: "8bit" } },
];
for (const choice of CHOICES) {
  const { rule: { name, moments }, trained } = choice;
  deviceTest(
    `updates with moments in bytes equal float64's of the same bytes: ${name}, weights in ${trained}`,
    async (pipelines) => {
      const seed = freshSeed();
      const random = normal(seed);
      const { plan, list, write, read, codes, absmax, update } = await optimizer(
        pipelines,
        SPECS,
        choice,
        OPTIONS,
        2 ** 16,
      );
      const isIn8Bits = ({ absmax }: TrainedParameter) => absmax !== undefined;
      assert.deepEqual(list.filter(isIn8Bits).map(({ spec }) => spec.name), ["large", "another"]);
      const packed = list.filter(({ weights }) => weights.storage === "bf16").map(({ spec }) => spec.name);
      assert.deepEqual(packed.sort(), trained === "bf16" ? ["another", "large", "small"] : []);
      for (const { weights, spec, rows } of list) {
        write(weights, Float32Array.from({ length: rows * spec.columns }, random));
      }
      const stateOf = async (parameter: TrainedParameter): Promise<AdamWState> => {
        const count = countOf(parameter);
        const scales = isIn8Bits(parameter) ? await absmax(parameter) : undefined;
        const state: AdamWState = {
          weights: Float64Array.from(await read(parameter.weights, count)),
          first: new Float64Array(),
          second: new Float64Array(),
        };
        for (const [m, { kind }] of moments.entries()) {
          state[kind] = scales
            ? dequantized(
              { codes: await codes(parameter, kind), absmax: scales },
              MAPS[kind],
              moments.length,
              m,
            )
            : Float64Array.from(await read(parameter[kind]!, count));
        }
        return state;
      };
      for (let step = 1; step <= 3; step++) {
        const before = await Promise.all(list.map(stateOf));
        // Of many sizes within a block, so that all decades of the maps are met.
        const gradients = list.map((parameter) =>
          Float32Array.from({ length: countOf(parameter) }, (_, i) => random() * 10 ** -(i % 6))
        );
        update(step, gradients, LEARNING_RATE);
        for (const [i, parameter] of list.entries()) {
          const what = `seed ${seed}, step ${step}: ${parameter.spec.name}`;
          const weightDecay = parameter.spec.kind === "matrix" ? OPTIONS.weightDecay : 0;
          const state = before[i];
          const figures = { ...OPTIONS, learningRate: LEARNING_RATE, weightDecay };
          const gradient = Float64Array.from(gradients[i]);
          const weights = await read(parameter.weights, countOf(parameter));
          if (name === "lion") {
            lion(state, gradient, figures).forEach((mean, e) => {
              // Next to 0 float32 may see another sign.
              if (mean !== 0 && Math.abs(mean) < 1e-7) state.weights[e] = weights[e];
            });
          } else adamw(state, gradient, step, figures);
          if (parameter.weights.storage === "bf16") {
            // One of the two neighbours.
            weights.forEach((found, e) => {
              const exact = state.weights[e];
              assert.ok(
                Math.abs(found - exact) <= 2 ** -7 * Math.abs(exact) + 1e-6,
                `${what}: ${exact} became ${found}`,
              );
            });
          } else assertClose(weights, state.weights, { tolerance: 3e-6, scale: 1 }, what);
          const scales = isIn8Bits(parameter) ? await absmax(parameter) : undefined;
          for (const [m, { kind }] of moments.entries()) {
            if (!scales) {
              const found = await read(parameter[kind]!, countOf(parameter));
              assertClose(found, state[kind], { tolerance: 3e-6 }, `${what}: ${kind}`);
              continue;
            }
            const own = scales.filter((_, at) => at % moments.length === m);
            assertClose(own, largest(state[kind]), { tolerance: 2e-6 }, `${what}: absmax of ${kind}`);
            // Roundings of terms that may cancel: by the largest share of them.
            const wrong = firstNotNearest(state[kind], await codes(parameter, kind), MAPS[kind], 1e-5);
            assert.equal(wrong, -1, `${what}: ${kind} ${wrong}`);
          }
        }
      }
      plan.destroy();
    },
  );
}

/**
 * The bfloat16 values next to a number, and how far it is from the lower in magnitude, as a share of their distance.
 */
function neighbours(value: number) {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  const [lower, upper] = new Float32Array(
    Uint32Array.of(bits & 0xffff0000, (bits & 0xffff0000) + 0x10000).buffer,
  );
  return { lower, upper, share: (value - lower) / (upper - lower) };
}

deviceTest(
  "weights in bfloat16 are the float32 ones rounded up or down, as often as they are near, by seed, step and place",
  async (pipelines) => {
    const seed = freshSeed();
    const specs = [spec("large", 300, 100), spec("another", 16, 64), spec("norm", 1, 64, "norm")];
    const bits: Uint16Array[] = [];
    for (const own of [seed, seed, seed + 1]) {
      const random = normal(seed);
      const options = { ...OPTIONS, seed: own };
      const { plan, list, write, read, update } = await optimizer(
        pipelines,
        specs,
        optimizerOf({ optim: "adamw_bf16" }),
        options,
      );
      const [large] = list;
      for (const { weights, spec, rows } of list) {
        write(weights, Float32Array.from({ length: rows * spec.columns }, random));
      }
      const before = Float64Array.from(await read(large.weights, countOf(large)));
      const gradients = list.map((parameter) => Float32Array.from({ length: countOf(parameter) }, random));
      update(1, gradients, LEARNING_RATE);
      const after = await read(large.weights, countOf(large));
      bits.push(new Uint16Array(fromF32(after, "BF16").buffer));
      const state = {
        weights: before.slice(),
        first: new Float64Array(before.length),
        second: new Float64Array(before.length),
      };
      adamw(state, Float64Array.from(gradients[0]), 1, { ...OPTIONS, learningRate: LEARNING_RATE });
      // By how near they are to the upper neighbour, in tenths: how many there are, how many were rounded up, how
      // many should be.
      const tenths = Array.from({ length: 10 }, () => ({ count: 0, up: 0, expected: 0, variance: 0 }));
      state.weights.forEach((exact, i) => {
        const { lower, upper, share } = neighbours(exact);
        // Where float32 itself decides between two pairs of neighbours: of a weight that nearly cancels, anywhere.
        const error = 2 ** -21 * (Math.abs(before[i]) + LEARNING_RATE) / Math.abs(upper - lower);
        const near = Math.max(2e-4, error);
        if (share < near || share > 1 - near) return;
        assert.ok(after[i] === lower || after[i] === upper, `${exact} became ${after[i]}`);
        const tenth = tenths[Math.floor(share * 10)];
        tenth.count++;
        tenth.expected += share;
        tenth.variance += share * (1 - share);
        if (after[i] === upper) tenth.up++;
      });
      assert.ok(tenths.every(({ count }) => count > 1000), JSON.stringify(tenths));
      const chiSquare = tenths.reduce((sum, t) => sum + (t.up - t.expected) ** 2 / t.variance, 0);
      // Ten degrees of freedom: exceeded once in a million.
      assert.ok(chiSquare < 46, `seed ${seed}: ${chiSquare}`);
      plan.destroy();
    }
    assertEqualBytes(bits[1], bits[0]);
    assert.ok(bits[2].some((value, i) => value !== bits[0][i]));
  },
);

deviceTest(
  "rounding by chance lets weights move by steps that rounding to the nearest loses",
  async (pipelines) => {
    const options = { ...OPTIONS, weightDecay: 0 };
    const { plan, list: [parameter], write, read, update } = await optimizer(
      pipelines,
      [spec("weight", 64, 64)],
      { rule: adamwRule, trained: "bf16", moments: IN_BYTES },
      options,
    );
    const count = countOf(parameter);
    write(parameter.weights, new Float32Array(count).fill(1));
    // Each step takes 1e-4, and the next bfloat16 below 1 is 0.0039 away.
    const steps = 100;
    for (let step = 1; step <= steps; step++) update(step, [new Float32Array(count).fill(0.25)], 1e-4);
    const weights = await read(parameter.weights, count);
    const mean = weights.reduce((sum, value) => sum + value, 0) / count;
    assert.ok(Math.abs(mean - (1 - steps * 1e-4)) < 5e-4, `${mean}`);
    // Where there is no gradient and nothing decays, none moves.
    update(steps + 1, [new Float32Array(count)], 0);
    assertEqualBytes(await read(parameter.weights, count), weights);
    plan.destroy();
  },
);
