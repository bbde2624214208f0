import { type Batch, pack } from "../batch/pack.ts";
import type { Pair } from "../data/pair.ts";
import type { Gpu } from "../gpu/device.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { Slab } from "../gpu/memory.ts";
import { type PairResult, pairResults } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";
import { sizeOf, trainingFlops } from "../graph/flops.ts";
import { AdamW, type ClipResult } from "./optimizer.ts";

/** One optimizer step that has run: its pairs' results, its gradient norm, and the work that it took. */
export interface StepResult {
  step: number;
  pairs: PairResult[];
  clip: ClipResult;
  /** Tokens of its packed rows. */
  tokens: number;
  /** Floating-point operations of forward and backward. */
  flops: number;
}

const RESULT_BYTES = 16;

/**
 * Runs optimizer steps without waiting for them: each leaves its figures in a slot of one staging buffer, which `collect`
 * reads in one go, since every read-back blocks until the GPU is idle and then sleeps for 10 ms.
 */
export class StepRunner {
  readonly #staging: Slab;
  readonly #slotBytes: number;
  readonly #pending: { step: number; batches: Batch[]; flops: number }[] = [];

  /** `slots` steps can be in flight; `pairsPerStep` bounds what one slot holds. */
  constructor(plan: MemoryPlan, readonly slots: number, readonly pairsPerStep: number) {
    this.#slotBytes = (pairsPerStep + 1) * RESULT_BYTES;
    // MAP_READ, COPY_DST
    this.#staging = plan.slab("read-back", "batch", slots * this.#slotBytes, 0x01 | 0x08);
  }

  get isFull(): boolean {
    return this.#pending.length === this.slots;
  }

  /** Submits one optimizer step (from 0): a submission for each micro-batch, the last with the update. */
  run(
    gpu: Gpu,
    decoder: Decoder,
    optimizer: AdamW,
    step: number,
    micro: Pair[][],
    learningRate: number,
  ): void {
    const pairsOfStep = micro.reduce((sum, pairs) => sum + pairs.length, 0);
    if (pairsOfStep > this.pairsPerStep) {
      throw new RangeError(`a step of ${pairsOfStep} pairs exceeds the plan's ${this.pairsPerStep}`);
    }
    const batches = micro.map((pairs) => pack(pairs, decoder.net.windows));
    optimizer.upload(gpu, step + 1, learningRate);
    const slot = this.#pending.length * this.#slotBytes;
    let done = 0;
    batches.forEach((batch, index) => {
      const place = { firstOfStep: index === 0, pairsOfStep };
      decoder.upload(gpu, batch, place);
      const encoder = gpu.device.createCommandEncoder();
      decoder.encodeForward(encoder);
      decoder.encodeBackward(encoder);
      this.#copyResults(encoder, decoder, batch, slot + done * RESULT_BYTES);
      done += batch.pairs;
      if (index === batches.length - 1) {
        optimizer.encode(encoder);
        const clip = optimizer.clip.slab.buffer!;
        encoder.copyBufferToBuffer(clip, 0, this.#staging.buffer!, slot + done * RESULT_BYTES, RESULT_BYTES);
      }
      gpu.device.queue.submit([encoder.finish()]);
    });
    const flops = batches.reduce((sum, batch) => sum + trainingFlops(decoder.net, sizeOf(batch)), 0);
    this.#pending.push({ step, batches, flops });
  }

  #copyResults(encoder: GPUCommandEncoder, decoder: Decoder, batch: Batch, at: number): void {
    const results = decoder.batch.results.slab.buffer!;
    encoder.copyBufferToBuffer(results, 0, this.#staging.buffer!, at, batch.pairs * RESULT_BYTES);
  }

  /** Waits for the steps in flight and returns what they left, in order. */
  async collect(gpu: Gpu): Promise<StepResult[]> {
    const all = await this.#read(gpu, this.#pending.length * this.#slotBytes);
    const results = this.#pending.map(({ step, batches, flops }, slot) => {
      let at = slot * this.#slotBytes / 4;
      const pairs = batches.flatMap((batch) => {
        const found = pairResults(all.subarray(at), batch);
        at += batch.pairs * 4;
        return found;
      });
      const clip = AdamW.readClip(all.subarray(at, at + 4));
      return { step, pairs, clip, flops, tokens: batches.reduce((sum, { ids }) => sum + ids.length, 0) };
    });
    this.#pending.length = 0;
    return results;
  }

  async #read(gpu: Gpu, bytes: number): Promise<Float32Array> {
    if (bytes === 0) return new Float32Array();
    const buffer = this.#staging.buffer!;
    await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
    const copy = new Float32Array(buffer.getMappedRange(0, bytes).slice(0));
    buffer.unmap();
    gpu.check();
    return copy;
  }
}
