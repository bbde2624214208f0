import { UserError } from "../errors.ts";
import type { Gpu } from "./device.ts";
import { MemoryPlan } from "./memory_plan.ts";
import { lossProbe } from "./operations.ts";
import { type Pipelines, Program, readTensor, RowCounts, slotOf, writeTensor } from "./program.ts";

/**
 * Runs a loss in WGSL on sums of its own.
 *
 * @param sums of chosen and rejected: each its sum, its number of labels, its reference's sum, and nothing.
 * @returns value and derivatives, four floats a pair.
 * @throws {UserError} with the compiler's message, where it does not compile.
 */
export async function probeLoss(
  gpu: Gpu,
  pipelines: Pipelines,
  { name, wgsl }: { name: string; wgsl: string },
  sums: Float32Array,
): Promise<Float32Array> {
  const plan = new MemoryPlan();
  const count = sums.length / 8;
  const rowCounts = new RowCounts(1);
  const rows = plan.tensor("row counts", "batch", [rowCounts.bytes / 4]);
  // UNIFORM, COPY_DST
  Object.assign(rows.slab, { usage: 0x40 | 0x08 });
  const given = plan.tensor("sums", "batch", [count, 8]);
  const found = plan.tensor("found", "batch", [count, 4]);
  const call = lossProbe({ slot: 0, tensor: slotOf(rows, 0) }, { sums: given, found }, wgsl);
  await plan.allocate(gpu);
  try {
    const program = await compile(pipelines, call, name);
    rowCounts.set(0, { count });
    rowCounts.upload(gpu, rows);
    writeTensor(gpu, given, sums);
    const encoder = gpu.device.createCommandEncoder();
    program.encode(encoder, rowCounts.counts);
    gpu.device.queue.submit([encoder.finish()]);
    return new Float32Array(await readTensor(gpu, found));
  } finally {
    plan.destroy();
  }
}

async function compile(pipelines: Pipelines, call: Parameters<typeof Program.compile>[1][0], name: string) {
  try {
    return await Program.compile(pipelines, [call]);
  } catch (error) {
    // Of the program's own kernels that would be a defect.
    if (!(error instanceof Error) || !/does not compile/.test(error.message)) throw error;
    throw new UserError(`loss ${name}: ${error.message}`, 1, "LOSS_INVALID");
  }
}
