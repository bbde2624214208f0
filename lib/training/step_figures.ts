import { type Batch } from "../batch/pack.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Slab } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { Decoder } from "../graph/decoder.ts";
import { FIGURE_FLOATS, type PairResult, pairResults, RESULT_FLOATS } from "./metrics.ts";
import { type ClipResult, Optimizer } from "./optimizer.ts";

/** One optimizer step that has run: its pairs' results, its gradient norm, and the work that it took. */
export interface StepResult {
  step: number;
  pairs: PairResult[];
  clip: ClipResult;
  /** Tokens of its packed rows. */
  tokens: number;
  /** Tokens of its sequences, each with its prompt. */
  sequenceTokens: number;
  /** Floating-point operations of forward and backward. */
  flops: number;
}

/** A step that was submitted, and what is known of it without its figures. */
export type Pending = Pick<StepResult, "step" | "flops" | "sequenceTokens"> & { batches: readonly Batch[] };

/** Reads the figures of steps, once the device has done them. */
export type ReadFigures = (gpu: Gpu) => Promise<StepResult[]>;

const PAIR_FLOATS = RESULT_FLOATS + FIGURE_FLOATS;
const CLIP_BYTES = 16;

/**
 * The figures that steps leave, each in a slot of a staging buffer, which is read in one go, since every read-back
 * blocks until the GPU is idle and then sleeps for 10 ms. While one such buffer is read, the next steps write to the
 * other.
 */
export class StepFigures {
  readonly #stagings: readonly Slab[];
  /** The number of the one that steps write to. */
  #staging = 0;
  readonly #slotBytes: number;
  /** The steps whose figures are in it. */
  #pending: Pending[] = [];
  /** Where the next figures go, within the slot of the step in hand. */
  #at = 0;

  /**
   * @param slots how many steps one staging buffer holds.
   * @param pairsPerStep bounds what one slot holds.
   */
  constructor(plan: MemoryPlan, readonly slots: number, pairsPerStep: number) {
    this.#slotBytes = pairsPerStep * PAIR_FLOATS * 4 + CLIP_BYTES;
    // MAP_READ, COPY_DST
    this.#stagings = ["read-back", "read-back (other)"].map((name) =>
      plan.slab(name, "batch", slots * this.#slotBytes, 0x01 | 0x08)
    );
  }

  get isFull(): boolean {
    return this.#pending.length === this.slots;
  }

  /** Copies what the passes of a batch have left. */
  copy(encoder: GPUCommandEncoder, batch: Batch, { results, responseFigures }: Decoder["batch"]): void {
    this.#copy(encoder, results.slab, batch.pairs * RESULT_FLOATS * 4);
    this.#copy(encoder, responseFigures.slab, batch.pairs * FIGURE_FLOATS * 4);
  }

  /** Copies the norm and the clipping coefficient, and ends the step. */
  end(encoder: GPUCommandEncoder, { clip }: Optimizer, step: Pending): void {
    // Behind those of all batches, which a stage of a pipeline has not that is not the last.
    this.#at = step.batches.reduce((sum, { pairs }) => sum + pairs, 0) * PAIR_FLOATS * 4;
    this.#copy(encoder, clip.slab, CLIP_BYTES);
    this.#pending.push(step);
    this.#at = 0;
  }

  #copy(encoder: GPUCommandEncoder, { buffer }: Slab, bytes: number): void {
    const first = this.#pending.length * this.#slotBytes;
    encoder.copyBufferToBuffer(buffer!, 0, this.#stagings[this.#staging].buffer!, first + this.#at, bytes);
    this.#at += bytes;
  }

  /**
   * Has the next steps write to the other staging buffer, whose figures must have been read, and returns what reads
   * those of the steps in flight, in order: the wait for them begins where that is called. Undefined where there are
   * none.
   */
  turn(): ReadFigures | undefined {
    const steps = this.#pending;
    if (steps.length === 0) return undefined;
    const buffer = this.#stagings[this.#staging].buffer!;
    this.#pending = [];
    this.#staging = 1 - this.#staging;
    return async (gpu) => {
      const bytes = steps.length * this.#slotBytes;
      await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
      const all = new Float32Array(buffer.getMappedRange(0, bytes).slice(0));
      buffer.unmap();
      gpu.check();
      return steps.map((step, slot) => resultOf(step, all.subarray(slot * this.#slotBytes / 4)));
    };
  }
}

/** The results of steps whose passes stages have made parts of: those that the last one has found. */
export const ofPipeline = (stages: readonly (readonly StepResult[])[]): StepResult[] =>
  stages.at(-1)!.map((result, i) => ({
    ...result,
    flops: stages.reduce((sum, steps) => sum + steps[i].flops, 0),
  }));

/** The results of steps of which each rank has made a part; the update is the same on all of them. */
export const together = ([first, ...others]: readonly (readonly StepResult[])[]): StepResult[] =>
  first.map((result, i) =>
    others.map((of) => of[i]).reduce((one, next) => ({
      ...one,
      pairs: [...one.pairs, ...next.pairs],
      tokens: one.tokens + next.tokens,
      sequenceTokens: one.sequenceTokens + next.sequenceTokens,
      flops: one.flops + next.flops,
    }), result)
  );

/** The step's results, of what it left in its slot. */
function resultOf({ batches, ...step }: Pending, slot: Float32Array): StepResult {
  let at = 0;
  const pairs = batches.flatMap((batch) => {
    const found = pairResults(slot.subarray(at), slot.subarray(at + batch.pairs * RESULT_FLOATS), batch);
    at += batch.pairs * PAIR_FLOATS;
    return found;
  });
  const tokens = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  return { ...step, pairs, clip: Optimizer.readClip(slot.subarray(at, at + 4)), tokens };
}
