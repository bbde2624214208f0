/** The sums of all ranks' gradients: by way of the host, since WebGPU knows no other. */
import type { Gpu } from "../gpu/device.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { TensorUse } from "../gpu/placement.ts";
import { type KernelCall, lastUses, type Pipelines, Program, writeTensor } from "../gpu/program.ts";
import type { Submissions } from "../gpu/submissions.ts";
import type { Parameters, TrainedParameter } from "../parameters/parameters.ts";
import { Adder } from "./adder.ts";
import type { Communicator } from "./communicator.ts";
import { HELD, RankSums, sentLength } from "./rank_sums.ts";
import { Staging } from "./staging.ts";

/**
 * Most elements of a piece, whose 16 MiB Deno reads from memory that it has had before: of 64 they are new each time,
 * and take three times as long. And so many pieces of a small model, whose sums are to be made while it is still at
 * work too.
 */
const PIECE = { elements: 2 ** 22, least: 8 };

/**
 * Pieces that are on their way to the host at once, but not more than half of all. The GPU goes on when the last piece
 * of what is complete has left its gradient: of Llama-3-8B gate and up, which are one product, are 28. With 16 on their
 * way 64 ranks would wait so long that they reach 81 % of their GPUs, with 32 92, with 64 93 (bench/ranks.ts).
 */
const MOST_STAGED = 32;

/** Bytes of a piece's room at least: the weights that zero_stage shares out come by it too, whole with their padding. */
const LEAST_STAGED = 2 ** 16;

/** How many of so many pieces are on their way at once. */
export const stagedPieces = (pieces: number): number => Math.min(MOST_STAGED, Math.ceil(pieces / 2));

/**
 * Arrays of a piece's size that come and go, beside those that are held: of what is mapped Deno has copies, of one that
 * is sent and of the next, and of weights that others update two are received.
 */
const PASSING = 4;

/** A run of a parameter's gradient. */
interface Part extends Pick<TrainedParameter, "gradients" | "sums"> {
  firstElement: number;
  count: number;
}

/** Gradients that are read back together, and the calls after which they are complete. */
interface Piece {
  calls: readonly KernelCall[];
  parts: Part[];
  elements: number;
}

/**
 * A backward pass in pieces: what each leaves is read back and summed while the GPU is at those after it. The pieces are
 * the same on every rank, since they follow from the graph alone.
 */
export class GradientSums {
  /** The pass, with what takes its gradients: what memory has to be planned for where they are not kept. */
  readonly uses: TensorUse[];
  readonly #pieces: readonly Piece[];
  /** By which pieces come to the host. */
  readonly staging: Staging;
  readonly #most: number;
  #programs: Program[] = [];
  /** Where gradients are not kept, the sums over the batches of a step so far, of each piece. */
  #waiting: Float32Array<ArrayBuffer>[] = [];
  #adder = new Adder();
  #sums?: RankSums;

  /** @param ranks how many add up. */
  constructor(
    plan: MemoryPlan,
    backward: readonly KernelCall[],
    parameters: Parameters,
    readonly ranks: number,
  ) {
    this.#pieces = piecesOf(backward, parameters);
    this.uses = this.#pieces.flatMap(({ calls, parts }) => [...calls, taking(parts)]);
    this.#most = sentLength(Math.max(...this.#pieces.map(({ elements }) => elements)), ranks);
    this.staging = new Staging(
      plan,
      stagedPieces(this.#pieces.length),
      Math.max(4 * this.#most, LEAST_STAGED),
    );
  }

  /** How many numbers there are in each sum of a step, in their order: those that are complete together in a row. */
  get lengths(): number[][] {
    const found: number[][] = [];
    for (const { calls, elements } of this.#pieces) {
      if (calls.length > 0 || found.length === 0) found.push([]);
      found.at(-1)!.push(elements);
    }
    return found;
  }

  /** Bytes of the machine's memory that exchanging them takes. */
  get hostBytes(): number {
    return HELD * 4 * this.#most + PASSING * this.staging.bytes;
  }

  /**
   * Compiles the pass, once the plan is allocated.
   * @param adder by default without threads.
   */
  async compile(pipelines: Pipelines, adder?: Adder): Promise<void> {
    if (adder) this.#adder = adder;
    this.#programs = [];
    for (const { calls } of this.#pieces) this.#programs.push(await Program.compile(pipelines, calls));
  }

  /** Makes the pass of a batch that is not its step's last where gradients are not kept: they wait on the host. */
  async add(counts: Uint32Array, commands: Submissions): Promise<void> {
    await this.#run(counts, commands, (own, i, begun) => {
      this.#waiting[i] ??= own.slice();
      begun();
      return Promise.resolve();
    });
  }

  /** Makes the pass of the step's last batch, and puts the sums of all ranks where they are kept. */
  async sum(communicator: Communicator, counts: Uint32Array, commands: Submissions): Promise<void> {
    const sums = this.#sumsOf(communicator);
    await this.#run(counts, commands, (own, i, begun) => this.#exchange(commands.gpu, sums, i, own, begun));
    await sums.end();
    this.#waiting = [];
  }

  /** As `sum`, on a rank that has no batch of the step: what lies in the place of its gradients counts for nothing. */
  async sumOthers(gpu: Gpu, communicator: Communicator): Promise<void> {
    const sums = this.#sumsOf(communicator);
    const none = new Float32Array(this.#most);
    for (const [i, piece] of this.#pieces.entries()) {
      await this.#exchange(gpu, sums, i, none.subarray(0, this.#sent(piece)));
    }
    await sums.end();
  }

  #sumsOf(communicator: Communicator): RankSums {
    return this.#sums ??= new RankSums(communicator, this.#adder, this.#most);
  }

  /** How many numbers a piece is read back and sent as. */
  #sent({ elements }: Piece): number {
    return sentLength(elements, this.ranks);
  }

  /**
   * Makes the pass; each piece is `take`'s, with what has waited of it, until that is done.
   *
   * @param take calls `begun` when others are at work for it, and the next piece can be fetched.
   */
  async #run(
    counts: Uint32Array,
    commands: Submissions,
    take: (own: Float32Array<ArrayBuffer>, piece: number, begun: () => void) => Promise<void>,
  ): Promise<void> {
    const { staging } = this;
    const count = this.#pieces.length;
    const begin = (index: number) => {
      if (index >= count) return;
      this.#programs[index].encode(commands.encoder, counts, commands.split);
      this.#copy(commands.encoder, index);
      commands.submit();
      staging.map(index, 4 * this.#sent(this.#pieces[index]));
    };
    for (let i = 0; i < staging.count; i++) begin(i);
    let next = this.#read(commands.gpu, 0);
    for (let i = 0; i < count; i++) {
      await take(await next, i, () => {
        if (i + 1 < count) next = this.#read(commands.gpu, i + 1);
        // Should the line fail, that is told and not this.
        next.catch(() => {});
      });
      staging.release(i);
      begin(i + staging.count);
    }
  }

  #copy(encoder: GPUCommandEncoder, piece: number): void {
    let at = 0;
    for (const { gradients: { slab, offset }, firstElement, count } of this.#pieces[piece].parts) {
      const staging = this.staging.bufferOf(piece);
      encoder.copyBufferToBuffer(slab.buffer!, offset + 4 * firstElement, staging, at, 4 * count);
      at += 4 * count;
    }
  }

  async #read(gpu: Gpu, piece: number): Promise<Float32Array<ArrayBuffer>> {
    const found = new Float32Array(await this.staging.read(gpu, piece));
    const waiting = this.#waiting[piece];
    if (!waiting) return found;
    addTo(waiting, found);
    return waiting;
  }

  #exchange(
    gpu: Gpu,
    sums: RankSums,
    piece: number,
    own: Float32Array<ArrayBuffer>,
    begun?: () => void,
  ): Promise<void> {
    const { parts, elements } = this.#pieces[piece];
    const take = (all: Float32Array<ArrayBuffer>) => {
      let at = 0;
      for (const { sums, firstElement, count } of parts) {
        if (sums) writeTensor(gpu, sums, all.subarray(at, at + count), firstElement);
        at += count;
      }
    };
    return sums.next(own, { length: elements, take, begun });
  }
}

function addTo(sums: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += values[i];
}

/** The gradients in the order in which they are complete, and after which calls. */
function piecesOf(backward: readonly KernelCall[], { trainedList, trainedCount }: Parameters): Piece[] {
  const most = Math.min(PIECE.elements, Math.ceil(trainedCount / PIECE.least));
  const uses = lastUses(backward);
  const completedBy = ({ gradients }: TrainedParameter) => uses.get(gradients)!;
  const pieces: Piece[] = [];
  let begun = 0;
  for (const parameter of trainedList.toSorted((a, b) => completedBy(a) - completedBy(b))) {
    const { gradients, sums, rows, spec } = parameter;
    const end = completedBy(parameter) + 1;
    for (let at = 0, count; at < rows * spec.columns; at += count) {
      count = Math.min(most, rows * spec.columns - at);
      let piece = pieces.at(-1);
      if (!piece || piece.elements + count > most) {
        piece = { calls: [], parts: [], elements: 0 };
        pieces.push(piece);
      }
      piece.calls = [...piece.calls, ...backward.slice(begun, end)];
      piece.parts.push({ gradients, sums, firstElement: at, count });
      piece.elements += count;
      begun = end;
    }
  }
  const last = pieces.at(-1)!;
  last.calls = [...last.calls, ...backward.slice(begun)];
  return pieces;
}

/** The copy of gradients to the host, until which they live. */
const taking = (parts: readonly Part[]): TensorUse => ({
  label: "gradients read back",
  source: "",
  bindings: [],
  copies: parts.map(({ gradients }) => ({ source: gradients })),
});
