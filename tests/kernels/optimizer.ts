/** Optimizers of a few parameters without a model, for tests of their kernels. */
import assert from "node:assert/strict";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { type Pipelines, Program, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { dtypeOf } from "../../lib/gpu/readback.ts";
import type { MomentKind } from "../../lib/optimizers/rule.ts";
import type { ParameterSpec } from "../../lib/parameters/parameter.ts";
import { Parameters, type TrainedParameter } from "../../lib/parameters/parameters.ts";
import type { OptimizerChoice } from "../../lib/planning/plan.ts";
import { type FloatDtype, fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { Optimizer, type OptimizerOptions } from "../../lib/training/optimizer.ts";

export const spec = (name: string, rows: number, columns: number, kind: ParameterSpec["kind"] = "matrix") =>
  ({ name, columns, kind, role: "trained", parts: [{ name, rows }] }) satisfies ParameterSpec;
export const countOf = ({ rows, spec }: TrainedParameter) => rows * spec.columns;

/** An optimizer of some parameters, with what tests do with it. */
export async function optimizer(
  pipelines: Pipelines,
  specs: ParameterSpec[],
  { rule, ...storage }: OptimizerChoice,
  options: OptimizerOptions,
  largestBuffer = 2 ** 24,
) {
  const { gpu } = pipelines;
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, specs, largestBuffer, { training: true, ...storage });
  const made = new Optimizer(plan, parameters, rule, options);
  await plan.allocate(gpu);
  assert.equal(plan.allocatedBytes, plan.bytes);
  const program = await Program.compile(pipelines, made.update());
  made.prepare(gpu);
  return {
    gpu,
    plan,
    parameters,
    list: parameters.trainedList,
    write(tensor: Tensor, values: Float32Array) {
      const bytes = fromF32(values, dtypeOf(tensor) as FloatDtype);
      writeTensor(gpu, tensor, tensor.storage === "bf16" ? new Uint16Array(bytes.buffer) : values);
    },
    async read(tensor: Tensor, count: number, firstElement = 0) {
      const bytes = new Uint8Array(await readTensor(gpu, tensor, firstElement, count));
      return toF32(bytes, dtypeOf(tensor) as FloatDtype);
    },
    codes: async (parameter: TrainedParameter, kind: MomentKind) =>
      new Uint8Array(await readTensor(gpu, parameter[kind]!, 0, countOf(parameter))),
    /** A number of each moment a block. */
    absmax: async (parameter: TrainedParameter) => {
      const moments = rule.moments.length;
      const count = moments * Math.ceil(countOf(parameter) / 256);
      return new Float32Array(
        await readTensor(gpu, parameter.absmax!, moments * parameter.firstScale, count),
      );
    },
    /** Makes update `step` (from 1) with these gradients, in the order of `list`. */
    update(step: number, gradients: Float32Array[], learningRate: number) {
      parameters.trainedList.forEach((parameter, i) => writeTensor(gpu, parameter.gradients, gradients[i]));
      made.upload(gpu, step, learningRate);
      const encoder = gpu.device.createCommandEncoder();
      program.encode(encoder, new Uint32Array());
      gpu.device.queue.submit([encoder.finish()]);
    },
  };
}

/** The numbers of tests/golden/optimizers/make.py. */
export const goldenNumbers = (count: number, salt: number, smallest: number) =>
  Float32Array.from({ length: count }, (_, i) => {
    const hashed = (i * 2654435761 + salt * 2246822519) % 2 ** 32;
    return (hashed / 2 ** 32 - 0.5) / 10 ** (i % (smallest + 1));
  });
