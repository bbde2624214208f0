import assert from "node:assert/strict";
import { MemoryPlan } from "../../lib/gpu/memory.ts";
import { Pipelines, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import type { ParameterSpec } from "../../lib/model/llama.ts";
import { type Parameter, type ParameterKind, Parameters } from "../../lib/model/parameters.ts";
import { AdamW, type AdamWOptions } from "../../lib/optimizer.ts";
import { normal } from "../../lib/random.ts";
import { assertClose, assertSameBits, deviceTest, freshSeed, useGpu } from "./harness.ts";
import { adamw, type AdamWState, clip } from "../reference/adamw.ts";

useGpu();

const spec = (name: string, rows: number, columns: number, isVector = false): ParameterSpec => ({
  name,
  columns,
  isVector,
  parts: [{ name, rows }],
});
/**
 * Norms stand between the matrices, which the plan puts first; `large` takes several blocks of the norm's
 * sum.
 */
const specs = (largeRows: number) => [
  spec("norm", 1, 36, true),
  spec("small", 3, 5),
  spec("large", largeRows, 100),
  spec("scalar", 1, 1),
  spec("last norm", 1, 5, true),
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
const OPTIONS: AdamWOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.1, maxGradNorm: 2 };
const LEARNING_RATE = 0.05;

const countOf = ({ rows, spec }: Parameter) => rows * spec.columns;

/** An optimizer of random weights, with what the tests do with it. */
async function optimizer(pipelines: Pipelines, options: AdamWOptions, layout: Layout, seed: number) {
  const { gpu } = pipelines;
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, specs(layout.largeRows), layout.largestBuffer, { training: true });
  const adam = new AdamW(plan, parameters, options);
  await plan.allocate(gpu);
  await adam.compile(gpu, pipelines);
  const random = normal(seed);
  const values = (count: number) => Float32Array.from({ length: count }, random);

  const read = async (parameter: Parameter, kind: ParameterKind) =>
    new Float32Array(await readTensor(gpu, parameter[kind], 0, countOf(parameter)));
  const readAll = () =>
    Promise.all(parameters.list.map(async (parameter) => ({
      weights: await read(parameter, "weights"),
      first: await read(parameter, "first"),
      second: await read(parameter, "second"),
    })));
  for (const parameter of parameters.list) writeTensor(gpu, parameter.weights, values(countOf(parameter)));

  return {
    plan,
    parameters,
    adam,
    values,
    readAll,
    /** Makes update `step` (from 1) with these gradients, in the order of `parameters.list`. */
    async update(step: number, gradients: Float32Array[]) {
      parameters.list.forEach((parameter, i) => writeTensor(gpu, parameter.gradients, gradients[i]));
      adam.upload(gpu, step, LEARNING_RATE);
      const encoder = gpu.device.createCommandEncoder();
      adam.encode(encoder);
      gpu.device.queue.submit([encoder.finish()]);
      return AdamW.readClip(new Float32Array(await readTensor(gpu, adam.clip)));
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
          const gradients = parameters.list.map((parameter) =>
            values(countOf(parameter)).map((g) => g * deviation)
          );
          const found = await update(step, gradients);
          const { norm, coefficient } = clip(gradients, maxGradNorm);
          const size = coefficient * deviation;
          assert.equal(found.broken, false);
          // A sum of squares has no cancellation; it is made in three stages of at most 64 terms each.
          assertClose([found.norm], [norm], { tolerance: 1e-6 }, `seed ${seed}: norm`);
          const now = await readAll();
          parameters.list.forEach(({ spec }, i) => {
            const weightDecay = spec.isVector ? 0 : figures.weightDecay;
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
      const fine = () => parameters.list.map((parameter) => values(countOf(parameter)));
      assert.equal((await update(1, fine())).broken, false);
      const before = await readAll();
      const assertUnchanged = async () =>
        (await readAll()).forEach((state, i) => {
          for (const kind of ["weights", "first", "second"] as const) {
            const words = ({ [kind]: values }: typeof state) => new Uint32Array(values.buffer);
            assertSameBits(words(state), words(before[i]), `${kind} of ${parameters.list[i].spec.name}`);
          }
        });
      const spoiled = fine();
      const index = parameters.list.findIndex(({ spec }) => spec.name === "small");
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
