import { type Batch, pack } from "../batch/pack.ts";
import { type Pair, responsesOf } from "../data/pair.ts";
import type { Adder } from "../distributed/adder.ts";
import { GradientSums } from "../distributed/gradients.ts";
import { ALONE, type Grid } from "../distributed/grid.ts";
import { shareWeights, sumTiedGradients } from "../distributed/parameters.ts";
import { passesOfStage, StageLine } from "../distributed/pipeline.ts";
import type { Gpu } from "../gpu/device.ts";
import {
  type KernelCall,
  lastUses,
  type Pipelines,
  Program,
  readTensor,
  writeTensor,
} from "../gpu/program.ts";
import { Submissions } from "../gpu/submissions.ts";
import { KeptActivations } from "./kept_activations.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { FunctionLoss } from "../losses/loss.ts";
import { lossOnHost } from "../losses/on_host.ts";
import { sizeOf } from "../batch/size.ts";
import { trainingFlops } from "../graph/flops.ts";
import type { TrainedParameter } from "../parameters/parameters.ts";
import { uniform } from "../random.ts";
import type { Optimizer } from "./optimizer.ts";
import { type ReadFigures, StepFigures, type StepResult } from "./step_figures.ts";

/** What this rank makes of a step. */
export interface StepPart {
  ranks: Grid;
  /** Where the first of its micro-batches stands among those of the step. */
  firstBatch: number;
  /** Pairs of the whole step. */
  pairsOfStep: number;
}

/** A step whose passes are under way. */
interface StepInHand extends StepPart {
  gpu: Gpu;
  step: number;
  /** Of this rank. */
  micro: readonly Pair[][];
  batches: readonly Batch[];
  commands: Submissions;
  line: StageLine;
  /** What the stage before has sent of micro-batches whose backward pass is still to come. */
  received: Map<number, Float32Array>;
  /** Pairs whose passes are encoded. */
  donePairs: number;
}

/**
 * Runs optimizer steps: for each batch the model's two passes, and after the last the update. Where gradients are
 * passing, each parameter is updated within the backward pass instead, as soon as its gradient is complete.
 * Steps are not waited for: what they leave is read when it is asked for (`StepFigures`).
 */
export class StepRunner {
  /** In TypeScript, where it is not the decoder's kernel's. */
  readonly loss?: FunctionLoss;
  readonly #seed: number;
  readonly #figures: StepFigures;
  /** The backward pass with the updates in it, where they are early. */
  readonly #early?: KernelCall[];
  /** Where several micro-batches are under way. */
  readonly #kept?: KeptActivations;
  /** The backward pass of several ranks. */
  readonly #sums?: GradientSums;
  #programs?: { backward?: Program; squares?: Program; update: Program };

  /**
   * Plans what steps need; where updates are early, all shared memory anew.
   * @param slots how many steps one staging buffer holds.
   * @param pairsPerStep bounds what one slot holds.
   * @param options `loss`: in TypeScript, where it is not the decoder's kernel's; `seed`: of what is drawn by chance in
   * a step; `ranks`: how many have the same parameters, and make the step together; `underWay`: how many micro-batches
   * of a stage of a pipeline are between their two passes.
   * @throws {RangeError} where early updates would have to know the norm of gradients that do not exist yet.
   */
  constructor(
    readonly decoder: Decoder,
    readonly optimizer: Optimizer,
    slots: number,
    readonly pairsPerStep: number,
    { loss, seed = 0, ranks = 1, underWay = 1 }: {
      loss?: FunctionLoss;
      seed?: number;
      ranks?: number;
      underWay?: number;
    } = {},
  ) {
    this.loss = loss;
    this.#seed = seed;
    this.#figures = new StepFigures(decoder.plan, slots, pairsPerStep);
    if (underWay > 1) {
      this.#kept = new KeptActivations(decoder.plan, decoder.forward, decoder.backward, underWay);
    }
    if (ranks > 1 && decoder.parameters.trainedCount > 0) {
      this.#sums = new GradientSums(decoder.plan, decoder.backward, decoder.parameters, ranks);
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

  /**
   * How many numbers there are in each sum over the ranks of a step, those that are complete together in a row; none
   * where one is alone.
   */
  get sums(): readonly (readonly number[])[] {
    return this.#sums?.lengths ?? [];
  }

  /** Whether the norm needs squares of gradients that are on other ranks. */
  get #needsOthersSquares(): boolean {
    return this.#areSent || this.optimizer.isPart;
  }

  /** Bytes of the machine's memory that sums of gradients take where a step has so many batches here. */
  hostBytes(batches: number): number {
    const waiting = this.#areSent && batches > 1 ? 4 * this.decoder.parameters.trainedCount : 0;
    return waiting + (this.#sums?.hostBytes ?? 0);
  }

  /** What runs beside the decoder's passes. */
  get calls(): readonly KernelCall[] {
    return this.#early ? [...this.optimizer.norm(), ...this.#early] : this.optimizer.update();
  }

  /**
   * Compiles `calls`, once the decoder has allocated the plan.
   * @param adder of several ranks' gradients; by default one without threads.
   */
  async compile(gpu: Gpu, pipelines: Pipelines, adder?: Adder): Promise<void> {
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
      await this.#sums.compile(pipelines, adder);
    }
    if (this.#early) {
      decoder.plan.checkShared([...decoder.forward, ...this.#early]);
      this.#programs.backward = await Program.compile(pipelines, this.#early);
    }
    optimizer.prepare(gpu);
  }

  /** Whether the figures of the steps in flight have to be read before another. */
  get isFull(): boolean {
    return this.#figures.isFull;
  }

  /**
   * Submits one optimizer step (from 0): a submission for each micro-batch, the last with the update. With a loss in
   * TypeScript each has two, and the first is waited for. For a software driver they are in pieces. Of several ranks
   * each makes its micro-batches, is sent the others' gradients, and then makes the same update. A stage of a pipeline
   * makes its part of every micro-batch's passes, as `passesOfStage` orders them; where others come between the
   * two of one, what it keeps lies aside.
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
    const { ranks, firstBatch, pairsOfStep } = part ??
      { ranks: ALONE, firstBatch: 0, pairsOfStep: micro.reduce((sum, { length }) => sum + length, 0) };
    if (pairsOfStep > this.pairsPerStep) {
      throw new RangeError(`a step of ${pairsOfStep} pairs exceeds the plan's ${this.pairsPerStep}`);
    }
    const batches = micro.map((pairs) => pack(pairs, decoder.net.windows));
    optimizer.upload(gpu, step + 1, learningRate);
    const inHand: StepInHand = {
      ...{ gpu, step, micro, batches, ranks, firstBatch, pairsOfStep },
      commands: new Submissions(gpu, { encoded: onEncoded, blocked: () => onDone?.(inHand.donePairs) }),
      line: new StageLine(gpu, ranks.pipeline),
      received: new Map(),
      donePairs: 0,
    };
    const passes = passesOfStage(batches.length, ranks.pipeline);
    for (const [i, { index, isForward }] of passes.entries()) {
      // Others come between the two passes of a micro-batch.
      const isInterrupted = passes[i + (isForward ? 1 : -1)].index !== index;
      if (isForward) await this.#forward(inHand, index, isInterrupted);
      else await this.#backward(inHand, index, isInterrupted);
    }
    await inHand.line.sent();
    if (batches.length === 0) await this.#sums?.sumOthers(gpu, ranks.data);
    await this.#update(inHand);
  }

  async #forward(inHand: StepInHand, index: number, isInterrupted: boolean): Promise<void> {
    const { gpu, batches, commands, line, micro, pairsOfStep } = inHand;
    const { decoder, loss } = this;
    const { received, sent } = decoder.boundaries;
    if (received) inHand.received.set(index, await line.receive("before"));
    this.#upload(inHand, index);
    decoder.encodeForward(commands.encoder, commands.split);
    if (isInterrupted) this.#kept!.save(commands.encoder, index);
    if (sent) {
      commands.submit();
      await line.send(sent, batches[index].ids.length, "next");
    } else if (loss) {
      commands.submit();
      await this.applyLoss(gpu, loss, batches[index], micro[index], pairsOfStep);
    }
  }

  async #backward(inHand: StepInHand, index: number, isInterrupted: boolean): Promise<void> {
    const { gpu, batches, commands, line, ranks } = inHand;
    const { decoder } = this;
    const { net, boundaries: { received, sent }, batch: { rowCounts: { counts } } } = decoder;
    const gradient = net.sent?.hasGradient ? await line.receive("next") : undefined;
    if (isInterrupted) {
      this.#upload(inHand, index);
      this.#kept!.restore(commands.encoder, index);
    }
    // In the place of what the forward pass has left there.
    if (gradient) writeTensor(gpu, sent!, gradient);
    const isLast = index === batches.length - 1;
    const { backward } = this.#programs!;
    if (this.#sums && isLast) {
      // MPI takes no other call while ranks add up.
      await line.sent();
      await this.#sums.sum(ranks.data, counts, commands);
    } else if (this.#sums && this.#areSent) await this.#sums.add(counts, commands);
    else if (backward) backward.encode(commands.encoder, counts, commands.split);
    else decoder.encodeBackward(commands.encoder, commands.split);
    const batch = batches[index];
    if (!sent) this.#figures.copy(commands.encoder, batch, decoder.batch);
    inHand.donePairs += batch.pairs;
    inHand.received.delete(index);
    if (received || !isLast) commands.submit();
    if (net.received?.hasGradient) await line.send(received!, batch.ids.length, "before");
  }

  /** The batch, and what the stage before has made of it. */
  #upload(
    { gpu, step, batches, firstBatch, pairsOfStep, received }: StepInHand,
    index: number,
  ): void {
    const { decoder } = this;
    const dropoutKey = Math.ceil(uniform(this.#seed, step, firstBatch + index)() * (2 ** 32 - 1)) || 1;
    const firstOfStep = index === 0 || this.#areSent;
    decoder.upload(gpu, batches[index], { firstOfStep, pairsOfStep, dropoutKey });
    const input = received.get(index);
    if (input) writeTensor(gpu, decoder.boundaries.received!, input);
  }

  /** The norm of all gradients, and what is left of the update. */
  async #update(
    { gpu, step, micro, batches, commands, ranks: { data, pipeline } }: StepInHand,
  ): Promise<void> {
    const { decoder, optimizer } = this;
    const { net, parameters } = decoder;
    const { squares, update } = this.#programs!;
    if (squares) {
      commands.submit();
      const isEnd = pipeline.rank === 0 || pipeline.rank === pipeline.size - 1;
      if (optimizer.isPart && isEnd && net.inputEmbeddings === net.outputEmbeddings) {
        await sumTiedGradients(gpu, pipeline, parameters.trained(net.outputEmbeddings));
      }
      squares.encode(commands.encoder, new Uint32Array());
      commands.submit();
      await optimizer.gatherSquares(gpu, this.#areSent ? data : pipeline);
    }
    update.encode(commands.encoder, new Uint32Array());
    const flops = batches.reduce((sum, batch) => sum + trainingFlops(net, sizeOf(batch)), 0);
    const sequences = micro.flat().flatMap(responsesOf);
    const sequenceTokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
    this.#figures.end(commands.encoder, optimizer, { step, batches, flops, sequenceTokens });
    commands.submit();
    if (this.#sums && parameters.isShared) {
      await shareWeights(gpu, data, parameters.chunks, this.#sums.staging);
    }
  }

  /** Puts a loss in TypeScript in the place of the kernel's, once the forward pass of a batch is submitted. */
  async applyLoss(
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

  /** Waits for the steps in flight and returns what they left, in order. */
  async collect(gpu: Gpu): Promise<StepResult[]> {
    return await this.turn()?.(gpu) ?? [];
  }

  /** As `StepFigures.turn`. */
  turn(): ReadFigures | undefined {
    return this.#figures.turn();
  }
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
