import { type Batch, pack } from "../batch/pack.ts";
import { type Pair, responsesOf } from "../data/pair.ts";
import { gather } from "../distributed/collectives.ts";
import { alone, type Communicator } from "../distributed/communicator.ts";
import { shareWeights, sumGradients } from "../distributed/parameters.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Slab, Tensor } from "../gpu/memory.ts";
import { type KernelCall, type Pipelines, Program, readTensor, tensorsOf } from "../gpu/program.ts";
import { FIGURE_FLOATS, type PairResult, pairResults, RESULT_FLOATS } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { FunctionLoss } from "../losses/loss.ts";
import { lossOnHost } from "../losses/on_host.ts";
import { sizeOf } from "../batch/size.ts";
import { trainingFlops } from "../graph/flops.ts";
import type { TrainedParameter } from "../parameters/parameters.ts";
import { uniform } from "../random.ts";
import { AdamW, type ClipResult } from "./optimizer.ts";

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

/** What this rank makes of a step. */
export interface StepPart {
  communicator: Communicator;
  /** Where the first of its micro-batches stands among those of the step. */
  firstBatch: number;
  /** Pairs of the whole step. */
  pairsOfStep: number;
}

const PAIR_FLOATS = RESULT_FLOATS + FIGURE_FLOATS;
const CLIP_BYTES = 16;
/** Milliseconds that no submission takes which a GPU works on by itself. */
const BLOCKED = 100;

/**
 * Runs optimizer steps: for each batch the model's two passes, and after the last the update. Where gradients are
 * passing, each parameter is updated within the backward pass instead, as soon as its gradient is complete.
 *
 * Steps are not waited for: each leaves its figures in a slot of one staging buffer, which `collect` reads in one go,
 * since every read-back blocks until the GPU is idle and then sleeps for 10 ms.
 */
export class StepRunner {
  readonly #staging: Slab;
  readonly #slotBytes: number;
  readonly #pending: { step: number; batches: Batch[]; flops: number; sequenceTokens: number }[] = [];
  /** The backward pass with the updates in it, where they are early. */
  readonly #early?: KernelCall[];
  #programs?: { backward?: Program; update: Program };

  /**
   * Plans what steps need; where updates are early, all shared memory anew.
   * @param slots how many steps can be in flight.
   * @param pairsPerStep bounds what one slot holds.
   * @param loss in TypeScript, where it is not the decoder's kernel's.
   * @param seed of what is drawn by chance in a step.
   * @throws {RangeError} where early updates would have to know the norm of gradients that do not exist yet.
   */
  constructor(
    readonly decoder: Decoder,
    readonly optimizer: AdamW,
    readonly slots: number,
    readonly pairsPerStep: number,
    readonly loss?: FunctionLoss,
    readonly seed: number = 0,
  ) {
    this.#slotBytes = pairsPerStep * PAIR_FLOATS * 4 + CLIP_BYTES;
    // MAP_READ, COPY_DST
    this.#staging = decoder.plan.slab("read-back", "batch", slots * this.#slotBytes, 0x01 | 0x08);
    if (decoder.options.gradients !== "passing") return;
    if (optimizer.options.maxGradNorm > 0) throw new RangeError("clipped gradients cannot be applied early");
    this.#early = withUpdates(
      decoder.backward,
      decoder.parameters.trainedList,
      (parameter) => optimizer.updateOf(parameter),
    );
    decoder.share([...decoder.forward, ...this.#early]);
  }

  /** Whether each parameter is updated before the gradients of those below it are known. */
  get updatesEarly(): boolean {
    return this.#early !== undefined;
  }

  /** What runs beside the decoder's passes. */
  get calls(): readonly KernelCall[] {
    return this.#early ? [...this.optimizer.norm(), ...this.#early] : this.optimizer.update();
  }

  /** Compiles `calls`, once the decoder has allocated the plan. */
  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    const { decoder, optimizer } = this;
    const update = await Program.compile(pipelines, this.#early ? optimizer.norm() : optimizer.update());
    this.#programs = { update };
    if (this.#early) {
      decoder.plan.checkShared([...decoder.forward, ...this.#early]);
      this.#programs.backward = await Program.compile(pipelines, this.#early);
    }
    optimizer.prepare(gpu);
  }

  get isFull(): boolean {
    return this.#pending.length === this.slots;
  }

  /**
   * Submits one optimizer step (from 0): a submission for each micro-batch, the last with the update. With a loss in
   * TypeScript each has two, and the first is waited for. For a software driver they are in pieces. Of several ranks
   * each makes its micro-batches, is sent the others' gradients, and then makes the same update.
   *
   * @param options `part`: where `micro` are not all micro-batches of the step; `onDone` hears how many of the pairs
   * are done, whenever a submission has blocked this thread.
   */
  async run(
    gpu: Gpu,
    step: number,
    micro: Pair[][],
    learningRate: number,
    { part, onDone }: { part?: StepPart; onDone?: (pairs: number) => void } = {},
  ): Promise<void> {
    const { decoder, optimizer } = this;
    const { backward, update } = this.#programs!;
    const { communicator, firstBatch, pairsOfStep } = part ??
      { communicator: alone, firstBatch: 0, pairsOfStep: micro.reduce((sum, { length }) => sum + length, 0) };
    if (pairsOfStep > this.pairsPerStep) {
      throw new RangeError(`a step of ${pairsOfStep} pairs exceeds the plan's ${this.pairsPerStep}`);
    }
    const batches = micro.map((pairs) => pack(pairs, decoder.net.windows));
    optimizer.upload(gpu, step + 1, learningRate);
    let at = this.#pending.length * this.#slotBytes;
    let done = 0;
    let encoder = gpu.device.createCommandEncoder();
    const begin = () => encoder = gpu.device.createCommandEncoder();
    const submit = () => {
      const start = performance.now();
      gpu.device.queue.submit([encoder.finish()]);
      // A driver that works in this thread has done then what it was given; of others nothing is known yet.
      if (performance.now() - start > BLOCKED) onDone?.(done);
    };
    const next = () => {
      submit();
      return begin();
    };
    // So that it is seen to move; a GPU is given more at once.
    const split = gpu.isSoftware ? next : undefined;
    for (const [index, batch] of batches.entries()) {
      const dropoutKey = Math.ceil(uniform(this.seed, step, firstBatch + index)() * (2 ** 32 - 1)) || 1;
      const place = { firstOfStep: index === 0, pairsOfStep, dropoutKey };
      decoder.upload(gpu, batch, place);
      decoder.encodeForward(encoder, split);
      if (this.loss) {
        submit();
        await this.#applyLoss(gpu, this.loss, batch, micro[index], pairsOfStep);
        encoder = begin();
      }
      if (backward) backward.encode(encoder, decoder.batch.rowCounts.counts, split);
      else decoder.encodeBackward(encoder, split);
      this.#copyResults(encoder, batch, at);
      at += batch.pairs * PAIR_FLOATS * 4;
      done += batch.pairs;
      if (index < batches.length - 1) next();
    }
    if (communicator.size > 1) {
      submit();
      await sumGradients(gpu, communicator, decoder.parameters.chunks, batches.length > 0);
      begin();
    }
    update.encode(encoder, new Uint32Array());
    encoder.copyBufferToBuffer(optimizer.clip.slab.buffer!, 0, this.#staging.buffer!, at, CLIP_BYTES);
    submit();
    if (decoder.parameters.isShared) await shareWeights(gpu, communicator, decoder.parameters.chunks);
    const flops = batches.reduce((sum, batch) => sum + trainingFlops(decoder.net, sizeOf(batch)), 0);
    const sequences = micro.flat().flatMap(responsesOf);
    const sequenceTokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
    this.#pending.push({ step, batches, flops, sequenceTokens });
  }

  async #applyLoss(
    gpu: Gpu,
    loss: FunctionLoss,
    batch: Batch,
    pairs: readonly Pair[],
    pairsOfStep: number,
  ): Promise<void> {
    const { decoder } = this;
    const results = new Float32Array(await readTensor(gpu, decoder.batch.results, 0, 4 * batch.pairs));
    const { labelsOfPair } = batch;
    const found = lossOnHost(loss, results, batch, (pair) => pairs[pair].where);
    const weights = new Float32Array(batch.targets.length);
    // Rounded as the kernel rounds them.
    const scale = Math.fround(1 / pairsOfStep);
    found.forEach(({ dChosen, dRejected }, pair) => {
      const [from, to, rejectedFrom, rejectedTo] = labelsOfPair.subarray(4 * pair, 4 * pair + 4);
      weights.fill(Math.fround(dChosen) * scale, from, to);
      weights.fill(Math.fround(dRejected) * scale, rejectedFrom, rejectedTo);
    });
    decoder.writeLoss(gpu, results, weights);
  }

  #copyResults(encoder: GPUCommandEncoder, batch: Batch, at: number): void {
    const { results, responseFigures } = this.decoder.batch;
    const bytes = batch.pairs * RESULT_FLOATS * 4;
    const staging = this.#staging.buffer!;
    encoder.copyBufferToBuffer(results.slab.buffer!, 0, staging, at, bytes);
    encoder.copyBufferToBuffer(
      responseFigures.slab.buffer!,
      0,
      staging,
      at + bytes,
      batch.pairs * FIGURE_FLOATS * 4,
    );
  }

  /** Waits for the steps in flight and returns what they left, in order; of several ranks, what all of them left. */
  async collect(gpu: Gpu, communicator: Communicator = alone): Promise<StepResult[]> {
    const all = await this.#read(gpu, this.#pending.length * this.#slotBytes);
    const results = this.#pending.map(({ step, batches, flops, sequenceTokens }, slot) => {
      let at = slot * this.#slotBytes / 4;
      const pairs = batches.flatMap((batch) => {
        const found = pairResults(all.subarray(at), all.subarray(at + batch.pairs * RESULT_FLOATS), batch);
        at += batch.pairs * PAIR_FLOATS;
        return found;
      });
      const clip = AdamW.readClip(all.subarray(at, at + 4));
      const tokens = batches.reduce((sum, { ids }) => sum + ids.length, 0);
      return { step, pairs, clip, flops, tokens, sequenceTokens };
    });
    this.#pending.length = 0;
    const [first, ...others] = await gather(communicator, results);
    return first.map((result, i) => others.map((of) => of[i]).reduce(together, result));
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

/** The results of two parts of a step; the update is the same on all ranks. */
const together = (one: StepResult, next: StepResult): StepResult => ({
  ...one,
  pairs: [...one.pairs, ...next.pairs],
  tokens: one.tokens + next.tokens,
  sequenceTokens: one.sequenceTokens + next.sequenceTokens,
  flops: one.flops + next.flops,
});

/** `calls`, with the updates of each parameter after the last of them that reads or writes its weights or gradient. */
function withUpdates(
  calls: readonly KernelCall[],
  parameters: readonly TrainedParameter[],
  updates: (parameter: TrainedParameter) => KernelCall[],
): KernelCall[] {
  const parameterOf = new Map<Tensor, TrainedParameter>(
    parameters.flatMap((parameter) =>
      [parameter.weights, parameter.gradients].map((tensor) => [tensor, parameter] as const)
    ),
  );
  const lastUse = new Map<TrainedParameter, number>();
  calls.forEach((call, index) => {
    for (const tensor of tensorsOf(call)) {
      const parameter = parameterOf.get(tensor.base ?? tensor);
      if (parameter) lastUse.set(parameter, index);
    }
  });
  const complete = Map.groupBy(lastUse, ([, index]) => index);
  return calls.flatMap((call, index) => [
    call,
    ...(complete.get(index) ?? []).flatMap(([parameter]) => updates(parameter)),
  ]);
}
