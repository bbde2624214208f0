import { type Batch, pack } from "../batch/pack.ts";
import { type Pair, responsesOf } from "../data/pair.ts";
import { GradientSums, type Submit } from "../distributed/gradients.ts";
import { ALONE, type Grid } from "../distributed/grid.ts";
import { shareWeights, sumTiedGradients } from "../distributed/parameters.ts";
import { passesOfStage, StageLine } from "../distributed/pipeline.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Slab } from "../gpu/memory.ts";
import {
  type KernelCall,
  lastUses,
  type Pipelines,
  Program,
  readTensor,
  writeTensor,
} from "../gpu/program.ts";
import { FIGURE_FLOATS, type PairResult, pairResults, RESULT_FLOATS } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { FunctionLoss } from "../losses/loss.ts";
import { lossOnHost } from "../losses/on_host.ts";
import { sizeOf } from "../batch/size.ts";
import { trainingFlops } from "../graph/flops.ts";
import type { TrainedParameter } from "../parameters/parameters.ts";
import { uniform } from "../random.ts";
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

/** What this rank makes of a step. */
export interface StepPart {
  ranks: Grid;
  /** Where the first of its micro-batches stands among those of the step. */
  firstBatch: number;
  /** Pairs of the whole step. */
  pairsOfStep: number;
}

/** A step that was submitted, and what is known of it without its figures. */
type Pending = Pick<StepResult, "step" | "flops" | "sequenceTokens"> & { batches: Batch[] };

/** Reads the figures of steps, once the device has done them. */
export type ReadFigures = (gpu: Gpu) => Promise<StepResult[]>;

const PAIR_FLOATS = RESULT_FLOATS + FIGURE_FLOATS;
const CLIP_BYTES = 16;
/** Milliseconds that no submission takes which a GPU works on by itself. */
const BLOCKED = 100;

/**
 * Runs optimizer steps: for each batch the model's two passes, and after the last the update. Where gradients are
 * passing, each parameter is updated within the backward pass instead, as soon as its gradient is complete.
 *
 * Steps are not waited for: each leaves its figures in a slot of a staging buffer, which is read in one go, since
 * every read-back blocks until the GPU is idle and then sleeps for 10 ms. While one such buffer is read, the next steps
 * write to the other.
 */
export class StepRunner {
  readonly #stagings: readonly Slab[];
  /** The number of the one that steps write to. */
  #staging = 0;
  readonly #slotBytes: number;
  /** The steps whose figures are in it. */
  #pending: Pending[] = [];
  /** The backward pass with the updates in it, where they are early. */
  readonly #early?: KernelCall[];
  /** The backward pass of several ranks. */
  readonly #sums?: GradientSums;
  #programs?: { backward?: Program; squares?: Program; update: Program };

  /**
   * Plans what steps need; where updates are early, all shared memory anew.
   * @param slots how many steps one staging buffer holds.
   * @param pairsPerStep bounds what one slot holds.
   * @param loss in TypeScript, where it is not the decoder's kernel's.
   * @param seed of what is drawn by chance in a step.
   * @param ranks how many have the same parameters, and make the step together.
   * @throws {RangeError} where early updates would have to know the norm of gradients that do not exist yet.
   */
  constructor(
    readonly decoder: Decoder,
    readonly optimizer: Optimizer,
    readonly slots: number,
    readonly pairsPerStep: number,
    readonly loss?: FunctionLoss,
    readonly seed: number = 0,
    ranks = 1,
  ) {
    this.#slotBytes = pairsPerStep * PAIR_FLOATS * 4 + CLIP_BYTES;
    // MAP_READ, COPY_DST
    this.#stagings = ["read-back", "read-back (other)"].map((name) =>
      decoder.plan.slab(name, "batch", slots * this.#slotBytes, 0x01 | 0x08)
    );
    if (ranks > 1 && decoder.parameters.trainedCount > 0) {
      this.#sums = new GradientSums(decoder.plan, decoder.backward, decoder.parameters);
    }
    if (this.#sums && this.#areSent) decoder.share([...decoder.forward, ...this.#sums.uses]);
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

  /** Whether gradients leave the GPU with each batch. */
  get #areSent(): boolean {
    return this.decoder.options.gradients === "sent";
  }

  /** How many numbers there are in each sum over the ranks of a step; none where one is alone. */
  get sums(): readonly number[] {
    return this.#sums?.lengths ?? [];
  }

  /** Whether the norm needs squares of gradients that are on other ranks. */
  get #needsOthersSquares(): boolean {
    return this.#areSent || this.optimizer.isPart;
  }

  /** Bytes of the machine's memory that sums of gradients take where a step has so many batches here. */
  hostBytes(batches: number): number {
    return this.#areSent && batches > 1 ? 4 * this.decoder.parameters.trainedCount : 0;
  }

  /** What runs beside the decoder's passes. */
  get calls(): readonly KernelCall[] {
    return this.#early ? [...this.optimizer.norm(), ...this.#early] : this.optimizer.update();
  }

  /** Compiles `calls`, once the decoder has allocated the plan. */
  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    const { decoder, optimizer } = this;
    const update = this.#early
      ? optimizer.norm()
      : this.#needsOthersSquares
      ? optimizer.apply()
      : optimizer.update();
    this.#programs = { update: await Program.compile(pipelines, update) };
    if (this.#needsOthersSquares) {
      this.#programs.squares = await Program.compile(pipelines, optimizer.squares());
    }
    if (this.#sums) {
      decoder.plan.checkShared([...decoder.forward, ...this.#sums.uses]);
      await this.#sums.compile(pipelines);
    }
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
   * each makes its micro-batches, is sent the others' gradients, and then makes the same update. A stage of a pipeline
   * makes its part of every micro-batch's passes, as `passesOfStage` orders them; where another forward pass came
   * between the two of one, it is run again from what the stage before had sent.
   *
   * @param options `part`: where `micro` are not all micro-batches of the step; `onEncoded` is called when the first
   * batch is encoded and nothing of the step is submitted yet: whoever asks for the figures of earlier steps then waits
   * for those alone, and the GPU does not wait for this step's encoding; `onDone` hears how many of the pairs are done,
   * whenever a submission has blocked this thread.
   */
  async run(
    gpu: Gpu,
    step: number,
    micro: Pair[][],
    learningRate: number,
    { part, onEncoded, onDone }: {
      part?: StepPart;
      onEncoded?: () => void;
      onDone?: (pairs: number) => void;
    } = {},
  ): Promise<void> {
    const { decoder, optimizer } = this;
    const { backward, squares, update } = this.#programs!;
    const { counts } = decoder.batch.rowCounts;
    const { ranks: { data, pipeline }, firstBatch, pairsOfStep } = part ??
      { ranks: ALONE, firstBatch: 0, pairsOfStep: micro.reduce((sum, { length }) => sum + length, 0) };
    if (pairsOfStep > this.pairsPerStep) {
      throw new RangeError(`a step of ${pairsOfStep} pairs exceeds the plan's ${this.pairsPerStep}`);
    }
    const batches = micro.map((pairs) => pack(pairs, decoder.net.windows));
    optimizer.upload(gpu, step + 1, learningRate);
    const staging = this.#stagings[this.#staging].buffer!;
    let at = this.#pending.length * this.#slotBytes;
    let done = 0;
    let encoder = gpu.device.createCommandEncoder();
    const begin = () => encoder = gpu.device.createCommandEncoder();
    const submit = () => {
      const commands = encoder.finish();
      onEncoded?.();
      onEncoded = undefined;
      const start = performance.now();
      gpu.device.queue.submit([commands]);
      // A driver that works in this thread has done then what it was given; of others nothing is known yet.
      if (performance.now() - start > BLOCKED) onDone?.(done);
    };
    const next = () => {
      submit();
      return begin();
    };
    // So that it is seen to move; a GPU is given more at once.
    const split = gpu.isSoftware ? next : undefined;
    const encodeAndSubmit: Submit = (encode) => {
      encode(encoder, split);
      next();
    };
    const { net, boundaries } = decoder;
    const { received, sent } = boundaries;
    const line = new StageLine(gpu, pipeline);
    const inputs = new Map<number, Float32Array>();
    let there: number | undefined;
    const forward = (index: number) => {
      const dropoutKey = Math.ceil(uniform(this.seed, step, firstBatch + index)() * (2 ** 32 - 1)) || 1;
      const firstOfStep = index === 0 || this.#areSent;
      decoder.upload(gpu, batches[index], { firstOfStep, pairsOfStep, dropoutKey });
      if (received) writeTensor(gpu, received, inputs.get(index)!);
      decoder.encodeForward(encoder, split);
      there = index;
    };
    for (const { index, isForward } of passesOfStage(batches.length, pipeline)) {
      const batch = batches[index];
      const tokens = batch.ids.length;
      if (isForward) {
        if (received) inputs.set(index, await line.receive("before"));
        forward(index);
        if (sent) {
          next();
          await line.send(sent, tokens, "next");
        } else if (this.loss) {
          submit();
          await this.#applyLoss(gpu, this.loss, batch, micro[index], pairsOfStep);
          encoder = begin();
        }
        continue;
      }
      const gradient = net.sent?.hasGradient ? await line.receive("next") : undefined;
      if (there !== index) {
        forward(index);
        next();
      }
      // In the place of what the forward pass has left there.
      if (gradient) writeTensor(gpu, sent!, gradient);
      const isLast = index === batches.length - 1;
      if (this.#sums && isLast) {
        // MPI takes no other call while ranks add up.
        await line.sent();
        await this.#sums.sum(gpu, data, counts, encodeAndSubmit);
      } else if (this.#sums && this.#areSent) await this.#sums.add(gpu, counts, encodeAndSubmit);
      else if (backward) backward.encode(encoder, counts, split);
      else decoder.encodeBackward(encoder, split);
      if (!sent) this.#copyResults(encoder, batch, staging, at);
      at += batch.pairs * PAIR_FLOATS * 4;
      done += batch.pairs;
      inputs.delete(index);
      if (received || !isLast) next();
      if (net.received?.hasGradient) await line.send(received!, tokens, "before");
    }
    await line.sent();
    if (batches.length === 0) await this.#sums?.sumOthers(gpu, data);
    if (squares) {
      submit();
      const isEnd = pipeline.rank === 0 || pipeline.rank === pipeline.size - 1;
      if (optimizer.isPart && isEnd && net.inputEmbeddings === net.outputEmbeddings) {
        await sumTiedGradients(gpu, pipeline, decoder.parameters.trained(net.outputEmbeddings));
      }
      squares.encode(begin(), new Uint32Array());
      submit();
      await optimizer.gatherSquares(gpu, this.#areSent ? data : pipeline);
      begin();
    }
    update.encode(encoder, new Uint32Array());
    encoder.copyBufferToBuffer(optimizer.clip.slab.buffer!, 0, staging, at, CLIP_BYTES);
    submit();
    if (decoder.parameters.isShared) await shareWeights(gpu, data, decoder.parameters.chunks);
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

  #copyResults(encoder: GPUCommandEncoder, batch: Batch, staging: GPUBuffer, at: number): void {
    const { results, responseFigures } = this.decoder.batch;
    const bytes = batch.pairs * RESULT_FLOATS * 4;
    encoder.copyBufferToBuffer(results.slab.buffer!, 0, staging, at, bytes);
    encoder.copyBufferToBuffer(
      responseFigures.slab.buffer!,
      0,
      staging,
      at + bytes,
      batch.pairs * FIGURE_FLOATS * 4,
    );
  }

  /** Waits for the steps in flight and returns what they left, in order. */
  async collect(gpu: Gpu): Promise<StepResult[]> {
    return await this.turn()?.(gpu) ?? [];
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

/** `calls`, with the updates of each parameter after the last of them that reads or writes its weights or gradient. */
function withUpdates(
  calls: readonly KernelCall[],
  parameters: readonly TrainedParameter[],
  updates: (parameter: TrainedParameter) => KernelCall[],
): KernelCall[] {
  const uses = lastUses(calls);
  const complete = Map.groupBy(
    parameters,
    ({ weights, gradients }) => Math.max(uses.get(weights) ?? -1, uses.get(gradients) ?? -1),
  );
  return calls.flatMap((call, index) => [call, ...(complete.get(index) ?? []).flatMap(updates)]);
}
