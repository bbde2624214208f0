/** Whether attention's backward pass is faster where one kernel keeps for the other what both need: measured. */
import { maskOf } from "../batch/mask.ts";
import { uniform } from "../random.ts";
import type { Gpu } from "./device.ts";
import { headsOf } from "./attention_family.ts";
import { Attention } from "./attention_operations.ts";
import { isClose, sampleOf, secondsOfRun } from "./measuring.ts";
import { MemoryPlan } from "./memory_plan.ts";
import { type Pipelines, Program, readTensor, RowCounts, slotOf, writeTensor } from "./program.ts";
import { attentionTiles, KEPT_BYTES } from "./tuning.ts";

/** A layer's heads, of which two runs are kept by turns, over one sequence: enough for a large GPU to be busy. */
const SIZE = { heads: 8, keyValueHeads: 2, headDim: 64, tokens: 2048, keeps: KEPT_BYTES };

/** Multiply-adds a second of the five products that there have to be, with what is kept and without it. */
export interface AttentionRates {
  kept: number;
  again: number;
  /** Whether both have the same gradient. */
  isRight: boolean;
}

export async function measureKept(
  gpu: Gpu,
  pipelines: Pipelines,
  { tokens, keeps, ...shape }: typeof SIZE = SIZE,
): Promise<AttentionRates> {
  const { heads, keyValueHeads, headDim } = shape;
  const plan = new MemoryPlan();
  const counts = new RowCounts(1);
  const slots = plan.tensor("row counts", "batch", [counts.bytes / 4]);
  // UNIFORM, COPY_DST
  Object.assign(slots.slab, { usage: 0x40 | 0x08 });
  counts.set(0, { count: tokens });
  const rows = { slot: 0, tensor: slotOf(slots, 0) };
  const mask = maskOf(
    Array.from({ length: tokens }, (_, position) => ({ start: 0, prefix: 0, part: 0, position })),
  );
  const width = (heads + 2 * keyValueHeads) * headDim;
  const scratch = (name: string, columns: number) => plan.tensor(name, "scratch", [tokens, columns]);
  const tensors = {
    spans: scratch("spans", 4),
    queryTiles: plan.tensor("query tiles", "batch", [mask.queryTiles.length]),
    keyTiles: plan.tensor("key tiles", "batch", [mask.keyTiles.length]),
    ...headsOf(scratch("qkv", width), shape),
    out: scratch("out", heads * headDim),
    lse: scratch("lse", heads),
    dOut: scratch("gradient of out", heads * headDim),
    delta: scratch("delta", heads),
  };
  const gradient = scratch("gradient", width);
  const passOf = (keeps: number) => {
    const attention = new Attention(plan, shape, tokens, attentionTiles("gpu", keeps), true);
    return {
      forward: attention.forward(rows, tensors),
      backward: attention.backward(rows, { ...tensors, dQueries: gradient, dKeys: gradient }),
    };
  };
  const [again, kept] = [passOf(0), passOf(keeps)];
  plan.share([...again.forward, ...again.backward, ...kept.backward], keeps);
  await plan.allocate(gpu);
  try {
    counts.upload(gpu, slots);
    writeTensor(gpu, tensors.spans, mask.spans);
    writeTensor(gpu, tensors.queryTiles, mask.queryTiles);
    writeTensor(gpu, tensors.keyTiles, mask.keyTiles);
    const next = uniform(1);
    for (const tensor of [tensors.queries.tensor, tensors.dOut]) {
      writeTensor(gpu, tensor, Float32Array.from({ length: tensor.bytes / 4 }, () => next() - 0.5));
    }
    await sampleOf(gpu, await Program.compile(pipelines, again.forward), counts.counts)(1);
    // Of five products, a multiply-add for every column of each pair of query and key.
    const work = 5 * heads * headDim * tokens * (tokens + 1) / 2;
    const measure = async (calls: typeof again.backward) => {
      const sample = sampleOf(gpu, await Program.compile(pipelines, calls), counts.counts);
      await sample(1);
      const rate = work / await secondsOfRun(sample, { runs: 1, sample: await sample(1) });
      gpu.check();
      return { rate, result: new Float32Array(await readTensor(gpu, gradient)) };
    };
    const [one, other] = [await measure(kept.backward), await measure(again.backward)];
    return { kept: one.rate, again: other.rate, isRight: isClose(one.result, other.result) };
  } finally {
    plan.destroy();
  }
}
