import assert from "node:assert/strict";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { hyperWords, NORM_BLOCK, optimizerUpdate, sumSquares } from "../../lib/gpu/optimizer_operations.ts";
import { Pipelines, Program, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { adamw as adamwRule } from "../../lib/optimizers/adamw.ts";
import type { ParameterSpec } from "../../lib/parameters/parameter.ts";
import {
  type ParameterKind,
  type ParameterOptions,
  Parameters,
  type TrainedParameter,
} from "../../lib/parameters/parameters.ts";
import { dtypeOf } from "../../lib/gpu/readback.ts";
import { type FloatDtype, toF32 } from "../../lib/safetensors/dtype.ts";
import { Optimizer, type OptimizerOptions } from "../../lib/training/optimizer.ts";
import { normal } from "../../lib/random.ts";
import { assertClose, deviceTest, freshSeed, kernelTest, useGpu } from "./harness.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { adamw, type AdamWState, clip } from "../reference/adamw.ts";

useGpu();

const spec = (
  name: string,
  rows: number,
  columns: number,
  kind: ParameterSpec["kind"] = "matrix",
): ParameterSpec => ({
  name,
  columns,
  kind,
  role: "trained",
  parts: [{ name, rows }],
});
/**
 * Norms stand between the matrices, which the plan puts first; `large` takes several blocks of the norm's
 * sum.
 */
const specs = (largeRows: number) => [
  spec("norm", 1, 36, "norm"),
  spec("small", 3, 5),
  spec("large", largeRows, 100),
  spec("scalar", 1, 1),
  spec("last norm", 1, 5, "norm"),
];
interface Layout {
  largeRows: number;
  /** Bytes that a slab of parameters may take: the fewer, the more dispatches. */
  largestBuffer: number;
}
/** Three slabs, the last with a matrix and norms; four blocks in `large`. */
const THREE_SLABS: Layout = { largeRows: 131, largestBuffer: 2 ** 16 };
/** One slab; 67 blocks in `large`, more than the 64 threads that sum them. */
const ONE_SLAB: Layout = { largeRows: 2710, largestBuffer: 2 ** 24 };
const OPTIONS: OptimizerOptions = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-6,
  weightDecay: 0.1,
  maxGradNorm: 2,
};
const LEARNING_RATE = 0.05;

const countOf = ({ rows, spec }: TrainedParameter) => rows * spec.columns;

/** An optimizer of random weights, with what the tests do with it. */
async function optimizer(
  pipelines: Pipelines,
  options: OptimizerOptions,
  layout: Layout,
  seed: number,
  moments?: ParameterOptions["moments"],
) {
  const { gpu } = pipelines;
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, specs(layout.largeRows), layout.largestBuffer, {
    training: true,
    moments,
  });
  const adam = new Optimizer(plan, parameters, adamwRule, options);
  await plan.allocate(gpu);
  const update = await Program.compile(pipelines, adam.update());
  adam.prepare(gpu);
  const random = normal(seed);
  const values = (count: number) => Float32Array.from({ length: count }, random);

  const read = async (parameter: TrainedParameter, kind: ParameterKind) => {
    const bytes = await readTensor(gpu, parameter[kind]!, 0, countOf(parameter));
    return toF32(new Uint8Array(bytes), dtypeOf(parameter[kind]!) as FloatDtype);
  };
  const readAll = () =>
    Promise.all(parameters.trainedList.map(async (parameter) => ({
      weights: await read(parameter, "weights"),
      first: await read(parameter, "first"),
      second: await read(parameter, "second"),
    })));
  for (const parameter of parameters.trainedList) {
    writeTensor(gpu, parameter.weights, values(countOf(parameter)));
  }

  return {
    plan,
    parameters,
    adam,
    values,
    readAll,
    /** Makes update `step` (from 1) with these gradients, in the order of `parameters.trainedList`. */
    async update(step: number, gradients: Float32Array[]) {
      parameters.trainedList.forEach((parameter, i) => writeTensor(gpu, parameter.gradients, gradients[i]));
      adam.upload(gpu, step, LEARNING_RATE);
      const encoder = gpu.device.createCommandEncoder();
      update.encode(encoder, new Uint32Array());
      gpu.device.queue.submit([encoder.finish()]);
      return Optimizer.readClip(new Float32Array(await readTensor(gpu, adam.clip)));
    },
  };
}

const figures = { ...OPTIONS, learningRate: LEARNING_RATE };

interface Case {
  maxGradNorm: number;
  layout: Layout;
  /**
   * Standard deviation of the gradients, of which there are at least 13,000: their norm is at least 100 times
   * as large.
   */
  deviation: number;
}
const CASES: Case[] = [
  { maxGradNorm: 2, layout: ONE_SLAB, deviation: 1 },
  { maxGradNorm: 2, layout: THREE_SLABS, deviation: 1 },
  { maxGradNorm: 1e4, layout: THREE_SLABS, deviation: 1 },
  { maxGradNorm: 0, layout: THREE_SLABS, deviation: 3 },
  // A norm of about 1e-3, to which torch's 1e-6 in the denominator matters.
  { maxGradNorm: 1e-4, layout: THREE_SLABS, deviation: 1e-5 },
];
for (const { maxGradNorm, layout, deviation } of CASES) {
  const slabs = layout === ONE_SLAB ? "one slab" : "three slabs";
  deviceTest(
    `three updates of ${slabs} equal AdamW in float64: max_grad_norm ${maxGradNorm}, gradients of ${deviation}`,
    async (pipelines) => {
      const seed = freshSeed();
      const { plan, parameters, values, readAll, update } = await optimizer(
        pipelines,
        { ...OPTIONS, maxGradNorm },
        layout,
        seed,
      );
      try {
        const states: AdamWState[] = (await readAll()).map(({ weights }) => ({
          weights: Float64Array.from(weights),
          first: new Float64Array(weights.length),
          second: new Float64Array(weights.length),
        }));
        for (let step = 1; step <= 3; step++) {
          const gradients = parameters.trainedList.map((parameter) =>
            values(countOf(parameter)).map((g) => g * deviation)
          );
          const found = await update(step, gradients);
          const { norm, coefficient } = clip(gradients, maxGradNorm);
          const size = coefficient * deviation;
          assert.equal(found.broken, false);
          // A sum of squares has no cancellation; it is made in three stages of at most 64 terms each.
          assertClose([found.norm], [norm], { tolerance: 1e-6 }, `seed ${seed}: norm`);
          const now = await readAll();
          parameters.trainedList.forEach(({ spec }, i) => {
            const weightDecay = spec.kind === "matrix" ? figures.weightDecay : 0;
            const gradient = Float64Array.from(gradients[i], (value) => value * coefficient);
            adamw(states[i], gradient, step, { ...figures, weightDecay });
            for (const kind of ["weights", "first", "second"] as const) {
              // A handful of roundings an update. A gradient near 0 is measured by the largest, about 3
              // before clipping.
              const scale = { weights: 1, first: size, second: size ** 2 }[kind];
              const what = `seed ${seed}, step ${step}: ${kind} of ${spec.name}`;
              assertClose(now[i][kind], states[i][kind], { tolerance: 2e-6, scale }, what);
            }
          });
        }
        pipelines.gpu.check();
      } finally {
        plan.destroy();
      }
    },
  );
}

const breaks: [string, (gradient: Float32Array) => void][] = [
  ["NaN", (gradient) => gradient[7] = NaN],
  ["infinite", (gradient) => gradient[0] = Infinity],
  ["too large to be squared", (gradient) => gradient[14] = -1e25],
];
for (const [name, spoil] of breaks) {
  deviceTest(`a gradient that is ${name} stops the update and all that follow`, async (pipelines) => {
    const { plan, parameters, adam, values, readAll, update } = await optimizer(
      pipelines,
      OPTIONS,
      THREE_SLABS,
      freshSeed(),
    );
    try {
      const fine = () => parameters.trainedList.map((parameter) => values(countOf(parameter)));
      assert.equal((await update(1, fine())).broken, false);
      const before = await readAll();
      const assertUnchanged = async () =>
        (await readAll()).forEach((state, i) => {
          for (const kind of ["weights", "first", "second"] as const) {
            const words = ({ [kind]: values }: typeof state) => new Uint32Array(values.buffer);
            assertEqualBytes(
              words(state),
              words(before[i]),
              `${kind} of ${parameters.trainedList[i].spec.name}`,
            );
          }
        });
      const spoiled = fine();
      const index = parameters.trainedList.findIndex(({ spec }) => spec.name === "small");
      spoil(spoiled[index]);
      assert.equal((await update(2, spoiled)).broken, true);
      await assertUnchanged();
      const broken = async () => (await adam.brokenParameters(pipelines.gpu)).map(({ spec }) => spec.name);
      assert.deepEqual(await broken(), ["small"]);

      assert.equal((await update(3, fine())).broken, true);
      await assertUnchanged();
      assert.deepEqual(await broken(), ["small"]);
    } finally {
      plan.destroy();
    }
  });
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
  "moments in bfloat16 are the float32 ones rounded: the first to the nearest, the second up or down with an exact mean",
  async (pipelines) => {
    const seed = freshSeed();
    const bf16 = { first: "bf16", second: "bf16" } as const;
    const { plan, parameters, values, readAll, update } = await optimizer(
      pipelines,
      { ...OPTIONS, maxGradNorm: 0 },
      THREE_SLABS,
      seed,
      bf16,
    );
    try {
      let [roundings, up, expectedUp, ties] = [0, 0, 0, 0];
      for (let step = 1; step <= 3; step++) {
        const before = await readAll();
        const gradients = parameters.trainedList.map((parameter) => values(countOf(parameter)));
        await update(step, gradients);
        const after = await readAll();
        parameters.trainedList.forEach(({ spec }, i) => {
          const state = {
            weights: Float64Array.from(before[i].weights),
            first: Float64Array.from(before[i].first),
            second: Float64Array.from(before[i].second),
          };
          const weightDecay = spec.kind === "matrix" ? figures.weightDecay : 0;
          adamw(state, Float64Array.from(gradients[i]), step, { ...figures, weightDecay });
          const what = `seed ${seed}, step ${step}: ${spec.name}`;
          // The update itself is made of unrounded moments.
          assertClose(after[i].weights, state.weights, { tolerance: 2e-6, scale: 1 }, what);
          state.first.forEach((exact, e) => {
            const { lower, upper } = neighbours(exact);
            // Float32's own roundings are of terms up to 4, which may cancel.
            const error = Math.abs(after[i].first[e] - exact);
            assert.ok(error <= Math.abs(upper - lower) / 2 + 5e-7, `${what}: ${exact} is off by ${error}`);
          });
          state.second.forEach((exact, e) => {
            const { lower, upper, share } = neighbours(exact);
            const found = after[i].second[e];
            if (share < 1e-3 || share > 1 - 1e-3) return ties++;
            assert.ok(found === lower || found === upper, `${what}: ${exact} became ${found}`);
            roundings++;
            expectedUp += share;
            if (found === upper) up++;
          });
        });
      }
      assert.ok(roundings > 35_000 && ties < 500, `${roundings}, ${ties}`);
      // A sum of so many coins of variance at most 1/4: five standard deviations.
      assert.ok(Math.abs(up - expectedUp) < 5 * Math.sqrt(roundings / 4), `${up}, ${expectedUp}`);
    } finally {
      plan.destroy();
    }
  },
);

deviceTest(
  "the state to save is both moments of every tensor, with type, shape and values",
  async (pipelines) => {
    const moments = { first: "f32", second: "bf16" } as const;
    const { plan, parameters, adam, values, readAll, update } = await optimizer(
      pipelines,
      OPTIONS,
      THREE_SLABS,
      1,
      moments,
    );
    try {
      await update(1, parameters.trainedList.map((parameter) => values(countOf(parameter))));
      const state = adam.state(pipelines.gpu);
      const names = parameters.names;
      assert.deepEqual(state.map(({ name }) => name), [
        ...names.map((name) => `exp_avg.${name}`),
        ...names.map((name) => `exp_avg_sq.${name}`),
      ]);
      const expected = await readAll();
      for (const [i, { name, dtype, shape, chunks }] of state.entries()) {
        const isFirst = name.startsWith("exp_avg.");
        assert.equal(dtype, isFirst ? "F32" : "BF16");
        assert.deepEqual(shape, parameters.shape(names[i % names.length]));
        const [bytes, ...others] = await Array.fromAsync(chunks());
        assert.deepEqual(others, []);
        const found = toF32(bytes, dtype as FloatDtype);
        assertEqualBytes(found, expected[i % names.length][isFirst ? "first" : "second"], name);
      }
    } finally {
      plan.destroy();
    }
  },
);

deviceTest(
  "rounding by chance lets the second moment fall, which rounding to the nearest stops",
  async (pipelines) => {
    const options = { ...OPTIONS, beta2: 0.999, maxGradNorm: 0 };
    const { plan, parameters, readAll, update } = await optimizer(pipelines, options, THREE_SLABS, 1, {
      first: "f32",
      second: "bf16",
    });
    try {
      // One large gradient, then none: the second moment falls by 0.1 % a step.
      const all = (value: number) =>
        parameters.trainedList.map((parameter) => new Float32Array(countOf(parameter)).fill(value));
      await update(1, all(1));
      const [start] = (await readAll())[0].second;
      const steps = 300;
      let nearest = start;
      for (let step = 2; step <= 1 + steps; step++) {
        await update(step, all(0));
        const { lower, upper, share } = neighbours(nearest * options.beta2);
        nearest = share < 0.5 ? lower : upper;
      }
      assert.equal(nearest, start);
      const expected = start * options.beta2 ** steps;
      const moments = (await readAll()).flatMap(({ second }) => [...second]);
      const mean = moments.reduce((sum, value) => sum + value, 0) / moments.length;
      assert.ok(Math.abs(mean / expected - 1) < 2e-3, `${mean}, ${expected}`);
      // Elements go each their own way.
      assert.ok(new Set(moments).size > 20);
      assert.ok(moments.every((value) => Math.abs(value / expected - 1) < 0.25));
    } finally {
      plan.destroy();
    }
  },
);

/** What a kernel reads as a uniform. */
function uniform(tensor: Tensor): Tensor {
  // UNIFORM, COPY_DST
  Object.assign(tensor.slab, { usage: 0x40 | 0x08 });
  return tensor;
}

const BLOCK_FLOATS = 4 * NORM_BLOCK;

kernelTest(
  "a tail shorter than a vec4: what other gradients left behind it is neither summed nor applied",
  [1, 3, 4, 6, BLOCK_FLOATS - 1, BLOCK_FLOATS, BLOCK_FLOATS + 2, 2 * BLOCK_FLOATS + 7].map((count) => ({
    count,
  })),
  async (kernels, { count }) => {
    const block = 2;
    const place = uniform(kernels.tensor([64], Uint32Array.of(block, 0)));
    const values = kernels.values(count);
    // Early updates compute gradients one after the other in the same memory: here NaNs follow them.
    const gradients = kernels.tensor([count], values);
    const blocks = Math.ceil(count / BLOCK_FLOATS);
    const partial = kernels.tensor([block + blocks], new Float32Array(block));
    const state = ["weights", "first", "second"].map(() =>
      kernels.tensorInPlace([count], new Float32Array(count))
    );
    const [weights, first, second] = state;
    const hyper = uniform(kernels.tensor([64], hyperWords(adamwRule, OPTIONS, 1, LEARNING_RATE)));
    const clip = kernels.tensor([4], Float32Array.of(0, 1, 0, 0));
    await kernels.run([
      sumSquares(place, gradients, partial, count),
      optimizerUpdate(
        adamwRule,
        { place, hyper, clip, gradients, weights, first, second },
        { count, decayed: count },
      ),
    ]);
    const sums = Array.from(
      { length: blocks },
      (_, i) =>
        values.subarray(i * BLOCK_FLOATS, (i + 1) * BLOCK_FLOATS).reduce((sum, value) => sum + value ** 2, 0),
    );
    const found = await kernels.read(partial, block + blocks);
    assertClose(found.subarray(block), sums, { tolerance: 1e-6 }, "sums of squares");
    assertClose(
      await kernels.read(first, count),
      values.map((value) => value * 0.1),
      { tolerance: 1e-6 },
      "moment",
    );
    for (const tensor of state) {
      const padded = await kernels.read(tensor, Math.ceil(count / 4) * 4);
      assert.ok(padded.every(Number.isFinite), `${tensor.name}: ${padded.findIndex(Number.isNaN)}`);
    }
  },
);
