/**
 * Moments in bytes and weights in bfloat16: bytes of bitsandbytes, updates of float64, and rounding with an exact
 * mean.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dynamicMap } from "../../kernels/dynamic_map.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { type Pipelines, Program, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { dtypeOf } from "../../lib/gpu/readback.ts";
import type { ParameterSpec } from "../../lib/parameters/parameter.ts";
import { type ParameterOptions, Parameters, type TrainedParameter } from "../../lib/parameters/parameters.ts";
import { normal } from "../../lib/random.ts";
import { type FloatDtype, fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { AdamW, type AdamWOptions } from "../../lib/training/optimizer.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { adamw } from "../reference/adamw.ts";
import { dequantized, firstNotNearest, largest } from "../reference/moments_8bit.ts";
import { assertClose, deviceTest, freshSeed, useGpu } from "./harness.ts";

useGpu();

const OPTIONS: AdamWOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.1, maxGradNorm: 0 };
const LEARNING_RATE = 0.01;
const MAPS = { first: dynamicMap(true), second: dynamicMap(false) };
type Moment = keyof typeof MAPS;
const MOMENTS: Moment[] = ["first", "second"];

const spec = (name: string, rows: number, columns: number, kind: ParameterSpec["kind"] = "matrix") =>
  ({ name, columns, kind, role: "trained", parts: [{ name, rows }] }) satisfies ParameterSpec;
const countOf = ({ rows, spec }: TrainedParameter) => rows * spec.columns;

/** An optimizer of some parameters, with what the tests do with it. */
async function optimizer(
  pipelines: Pipelines,
  specs: ParameterSpec[],
  storage: Pick<ParameterOptions, "trained" | "moments">,
  options: AdamWOptions = OPTIONS,
  largestBuffer = 2 ** 24,
) {
  const { gpu } = pipelines;
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, specs, largestBuffer, { training: true, ...storage });
  const adam = new AdamW(plan, parameters, options);
  await plan.allocate(gpu);
  assert.equal(plan.allocatedBytes, plan.bytes);
  const program = await Program.compile(pipelines, adam.update());
  adam.prepare(gpu);
  return {
    gpu,
    plan,
    parameters,
    adam,
    list: parameters.trainedList,
    write(tensor: Tensor, values: Float32Array) {
      const bytes = fromF32(values, dtypeOf(tensor) as FloatDtype);
      writeTensor(gpu, tensor, tensor.storage === "bf16" ? new Uint16Array(bytes.buffer) : values);
    },
    async read(tensor: Tensor, count: number, firstElement = 0) {
      const bytes = new Uint8Array(await readTensor(gpu, tensor, firstElement, count));
      return toF32(bytes, dtypeOf(tensor) as FloatDtype);
    },
    codes: async (parameter: TrainedParameter, kind: Moment) =>
      new Uint8Array(await readTensor(gpu, parameter[kind], 0, countOf(parameter))),
    /** Of both moments, two numbers a block. */
    absmax: async (parameter: TrainedParameter) => {
      const count = 2 * Math.ceil(countOf(parameter) / 256);
      return new Float32Array(await readTensor(gpu, parameter.absmax!, 2 * parameter.firstScale, count));
    },
    /** Makes update `step` (from 1) with these gradients, in the order of `list`. */
    update(step: number, gradients: Float32Array[], learningRate = LEARNING_RATE) {
      parameters.trainedList.forEach((parameter, i) => writeTensor(gpu, parameter.gradients, gradients[i]));
      adam.upload(gpu, step, learningRate);
      const encoder = gpu.device.createCommandEncoder();
      program.encode(encoder, new Uint32Array());
      gpu.device.queue.submit([encoder.finish()]);
    },
  };
}

/** The numbers of tests/golden/adamw_8bit/make.py. */
const goldenNumbers = (count: number, salt: number, smallest: number) =>
  Float32Array.from({ length: count }, (_, i) => {
    const hashed = (i * 2654435761 + salt * 2246822519) % 2 ** 32;
    return (hashed / 2 ** 32 - 0.5) / 10 ** (i % (smallest + 1));
  });

deviceTest(
  "moments in bytes are those of bitsandbytes' AdamW8bit, and so are the weights",
  async (pipelines) => {
    const golden = JSON.parse(await readFile("tests/golden/adamw_8bit/bitsandbytes.json", "utf8"));
    const bytes = (text: string) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const floats = (text: string) => new Float32Array(bytes(text).buffer);
    assert.deepEqual([MAPS.first, MAPS.second], golden.maps.map(floats));
    const { rows, columns } = golden;
    const { plan, list: [parameter], write, read, codes, absmax, update } = await optimizer(
      pipelines,
      [spec("weight", rows, columns)],
      { moments: "8bit" },
    );
    const count = rows * columns;
    write(parameter.weights, goldenNumbers(count, 0, 0));
    let others = 0;
    for (const [i, expected] of golden.steps.entries()) {
      update(i + 1, [goldenNumbers(count, i + 1, 4)]);
      for (const [m, kind] of MOMENTS.entries()) {
        const found = await codes(parameter, kind);
        bytes(expected[`state${m + 1}`]).forEach((code, e) => {
          // A share next to a border may be rounded to the other side.
          assert.ok(Math.abs(found[e] - code) <= 1, `step ${i + 1}, ${kind} ${e}: ${found[e]}, ${code}`);
          if (found[e] !== code) others++;
        });
        const scales = (await absmax(parameter)).filter((_, at) => at % 2 === m);
        assertClose(
          scales,
          floats(expected[`absmax${m + 1}`]),
          { tolerance: 1e-6 },
          `step ${i + 1}: absmax of ${kind}`,
        );
      }
    }
    assert.ok(others <= 5, `${others} of ${golden.steps.length * 2 * count} bytes are others`);
    assertClose(await read(parameter.weights, count), floats(golden.weights), { tolerance: 1e-5 }, "weights");
    plan.destroy();
  },
);

/** With a tail of less than a block, one below bitsandbytes' size, one whose rows are no multiple of 4, and a norm. */
const SPECS = [
  spec("norm", 1, 5000, "norm"),
  spec("large", 1101, 12),
  spec("odd", 1000, 5),
  spec("small", 31, 132),
  spec("another", 64, 64),
];

for (const trained of ["f32", "bf16"] as const) {
  deviceTest(
    `updates with moments in bytes equal float64's of the same bytes: weights in ${trained}`,
    async (pipelines) => {
      const seed = freshSeed();
      const random = normal(seed);
      const { plan, list, write, read, codes, absmax, update } = await optimizer(
        pipelines,
        SPECS,
        { moments: "8bit", trained },
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
      const stateOf = async (parameter: TrainedParameter) => {
        const count = countOf(parameter);
        const scales = isIn8Bits(parameter) ? await absmax(parameter) : undefined;
        const moment = async (kind: Moment, first: number) =>
          scales
            ? dequantized({ codes: await codes(parameter, kind), absmax: scales }, MAPS[kind], 2, first)
            : Float64Array.from(await read(parameter[kind], count));
        return {
          weights: Float64Array.from(await read(parameter.weights, count)),
          first: await moment("first", 0),
          second: await moment("second", 1),
        };
      };
      for (let step = 1; step <= 3; step++) {
        const before = await Promise.all(list.map(stateOf));
        // Of many sizes within a block, so that all decades of the maps are met.
        const gradients = list.map((parameter) =>
          Float32Array.from({ length: countOf(parameter) }, (_, i) => random() * 10 ** -(i % 6))
        );
        update(step, gradients);
        for (const [i, parameter] of list.entries()) {
          const what = `seed ${seed}, step ${step}: ${parameter.spec.name}`;
          const weightDecay = parameter.spec.kind === "matrix" ? OPTIONS.weightDecay : 0;
          const state = before[i];
          adamw(state, Float64Array.from(gradients[i]), step, {
            ...OPTIONS,
            learningRate: LEARNING_RATE,
            weightDecay,
          });
          const weights = await read(parameter.weights, countOf(parameter));
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
          if (!isIn8Bits(parameter)) continue;
          const scales = await absmax(parameter);
          for (const [m, kind] of MOMENTS.entries()) {
            const own = scales.filter((_, at) => at % 2 === m);
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
        { trained: "bf16", moments: { first: "bf16", second: "bf16" } },
        options,
      );
      const [large] = list;
      for (const { weights, spec, rows } of list) {
        write(weights, Float32Array.from({ length: rows * spec.columns }, random));
      }
      const before = Float64Array.from(await read(large.weights, countOf(large)));
      const gradients = list.map((parameter) => Float32Array.from({ length: countOf(parameter) }, random));
      update(1, gradients);
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
        const error = 2 ** -21 * (Math.abs(before[i]) + LEARNING_RATE) / (upper - lower);
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
      { trained: "bf16", moments: "8bit" },
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
