/** The sums of all ranks' gradients: by way of the host, since WebGPU knows no other. */
import type { Gpu } from "../gpu/device.ts";
import type { Slab } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { TensorUse } from "../gpu/placement.ts";
import { type KernelCall, lastUses, type Pipelines, Program, writeTensor } from "../gpu/program.ts";
import type { Submissions } from "../gpu/submissions.ts";
import type { Parameters, TrainedParameter } from "../parameters/parameters.ts";
import { SumMemory, sumOfRanks } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Most elements of a piece, whose 16 MiB Deno reads from memory that it has had before: of 64 they are new each time,
 * and take three times as long. And so many pieces of a small model, whose sums are to be made while it is still at
 * work too.
 */
const PIECE = { elements: 2 ** 22, least: 8 };

/** MAP_READ, COPY_DST */
const READ_BACK = 0x01 | 0x08;

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
 * A backward pass in pieces: what each leaves is read back and summed while the GPU is at the next. The pieces are the
 * same on every rank, since they follow from the graph alone.
 */
export class GradientSums {
  /** The pass, with what takes its gradients: what memory has to be planned for where they are not kept. */
  readonly uses: TensorUse[];
  readonly #pieces: readonly Piece[];
  readonly #staging: Slab;
  readonly #memory = new SumMemory();
  #own = new Float32Array();
  #programs: Program[] = [];
  /** Where gradients are not kept, the sums over the batches of a step so far, of each piece. */
  #waiting: Float32Array<ArrayBuffer>[] = [];

  constructor(plan: MemoryPlan, backward: readonly KernelCall[], parameters: Parameters) {
    this.#pieces = piecesOf(backward, parameters);
    this.uses = this.#pieces.flatMap(({ calls, parts }) => [...calls, taking(parts)]);
    const most = Math.max(...this.#pieces.map(({ elements }) => elements));
    this.#staging = plan.slab("gradients read back", "gradients", most * 4, READ_BACK);
  }

  /** How many numbers there are in each sum of a step, in their order. */
  get lengths(): number[] {
    return this.#pieces.map(({ elements }) => elements);
  }

  /** Compiles the pass, once the plan is allocated. */
  async compile(pipelines: Pipelines): Promise<void> {
    this.#programs = [];
    this.#own = new Float32Array(this.#staging.bytes / 4);
    for (const { calls } of this.#pieces) this.#programs.push(await Program.compile(pipelines, calls));
  }

  /** Makes the pass of a batch that is not its step's last where gradients are not kept: they wait on the host. */
  async add(counts: Uint32Array, commands: Submissions): Promise<void> {
    await this.#run(
      counts,
      commands,
      (own, i) => (this.#waiting[i] ??= new Float32Array(own.length)).set(own),
    );
  }

  /** Makes the pass of the step's last batch, and puts the sums of all ranks where they are kept. */
  async sum(communicator: Communicator, counts: Uint32Array, commands: Submissions): Promise<void> {
    await this.#run(counts, commands, (own, i) => this.#exchange(commands.gpu, communicator, i, own));
    this.#waiting = [];
  }

  /** As `sum`, on a rank that has no batch of the step: what lies in the place of its gradients counts for nothing. */
  async sumOthers(gpu: Gpu, communicator: Communicator): Promise<void> {
    for (const [i, { elements }] of this.#pieces.entries()) {
      await this.#exchange(gpu, communicator, i, new Float32Array(elements));
    }
  }

  async #run(
    counts: Uint32Array,
    commands: Submissions,
    take: (own: Float32Array<ArrayBuffer>, piece: number) => unknown,
  ): Promise<void> {
    const begin = (index: number) => {
      this.#programs[index].encode(commands.encoder, counts, commands.split);
      this.#copy(commands.encoder, this.#pieces[index].parts);
      commands.submit();
    };
    begin(0);
    let mapped = this.#map(0);
    for (const [i] of this.#pieces.entries()) {
      await mapped;
      const own = this.#read(commands.gpu, i);
      if (i + 1 < this.#pieces.length) {
        begin(i + 1);
        // Asked for at once: Deno looks for what is done some 10 ms apart, and `take` may be as long.
        mapped = this.#map(i + 1);
      }
      addTo(own, this.#waiting[i]);
      await take(own, i);
    }
  }

  /** Waits until a piece can be read. */
  #map(piece: number): Promise<void> {
    const mapped = this.#staging.buffer!.mapAsync(GPUMapMode.READ, 0, 4 * this.#pieces[piece].elements);
    // Should the piece before fail, that is told and not this.
    mapped.catch(() => {});
    return mapped;
  }

  #copy(encoder: GPUCommandEncoder, parts: readonly Part[]): void {
    let at = 0;
    for (const { gradients: { slab, offset }, firstElement, count } of parts) {
      encoder.copyBufferToBuffer(
        slab.buffer!,
        offset + 4 * firstElement,
        this.#staging.buffer!,
        at,
        4 * count,
      );
      at += 4 * count;
    }
  }

  #read(gpu: Gpu, piece: number): Float32Array<ArrayBuffer> {
    const buffer = this.#staging.buffer!;
    const { elements } = this.#pieces[piece];
    // Held from piece to piece, as `SumMemory` is.
    const found = this.#own.subarray(0, elements);
    found.set(new Float32Array(buffer.getMappedRange(0, 4 * elements)));
    buffer.unmap();
    gpu.check();
    return found;
  }

  async #exchange(
    gpu: Gpu,
    communicator: Communicator,
    piece: number,
    own: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    const all = await sumOfRanks(communicator, own, this.#memory);
    let at = 0;
    for (const { sums, firstElement, count } of this.#pieces[piece].parts) {
      if (sums) writeTensor(gpu, sums, all.subarray(at, at + count), firstElement);
      at += count;
    }
  }
}

function addTo(sums: Float32Array, values: Float32Array | undefined): void {
  if (!values) return;
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
