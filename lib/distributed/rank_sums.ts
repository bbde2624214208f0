/** The sums over all ranks of what each has, piece after piece. */
import type { Adder } from "./adder.ts";
import type { Communicator } from "./communicator.ts";

/** How many numbers, of 4 bytes each, a piece of so many is sent as: each rank adds up as large a part. */
export const sentLength = (length: number, ranks: number): number => Math.ceil(length / ranks) * ranks;

/** A piece that is added up. */
interface Adding {
  sums: Float32Array<SharedArrayBuffer>;
  done: Promise<void>;
  take: () => void;
}

/** Arrays of a piece's size that are held from piece to piece: memory that is new costs more than what is done in it. */
export const HELD = 3;

/**
 * Sums over all ranks, in the same bits on each: taken in the order of ranks and in float64, and rounded once. Each rank
 * adds up a part of a piece, so that it sends and is sent what it has twice, however many they are.
 *
 * A piece is sent while the one before it is added up, and that one's sums are told while this one is: so the line, the
 * threads that add up, and whoever takes the sums are at work at once. What ranks do together is in the same order on
 * all of them, one after the other: MPI takes no two calls at a time.
 */
export class RankSums {
  /** What others have sent of two pieces: threads read and write there. */
  readonly #received: [SharedArrayBuffer, SharedArrayBuffer];
  /** The sums of all ranks; not shared: a process ends of which Dawn is to write shared memory. */
  readonly #all: ArrayBuffer;
  #pieces = 0;
  #adding?: Adding;
  /** Takes what lies in `#all`. */
  #take?: () => void;

  /** @param most numbers of the largest piece. */
  constructor(readonly communicator: Communicator, readonly adder: Adder, most: number) {
    const bytes = 4 * sentLength(most, communicator.size);
    this.#received = [new SharedArrayBuffer(bytes), new SharedArrayBuffer(bytes)];
    this.#all = new ArrayBuffer(bytes);
  }

  /**
   * Gives the next piece to the other ranks.
   *
   * @param parts of `sentLength`; what is beyond `length` counts for nothing.
   * @param on `take` hears the sums of all ranks, in memory that is the next ones' afterwards: in a later call, or in
   * `end`. `begun` is called when the line is at work.
   * @returns when `parts` may be changed.
   */
  async next(
    parts: Float32Array<ArrayBuffer>,
    { length, take, begun }: {
      length: number;
      take: (sums: Float32Array<ArrayBuffer>) => void;
      begun?: () => void;
    },
  ): Promise<void> {
    const { communicator } = this;
    const received = new Float32Array(this.#received[this.#pieces++ % 2], 0, parts.length);
    await communicator.meet();
    const sent = communicator.allToAll(bytesOf(parts), bytesOf(received));
    // Should these fail, that is told and not the line's end.
    sent.catch(() => {});
    this.#taken();
    begun?.();
    await sent;
    const sums = received.subarray(0, parts.length / communicator.size);
    await this.#tell(() => ({
      sums,
      done: this.adder.add(received, sums),
      take: () => take(new Float32Array(this.#all, 0, length)),
    }));
  }

  /** The sums of the last piece. */
  async end(): Promise<void> {
    if (!this.#adding) return;
    await this.communicator.meet();
    this.#taken();
    await this.#tell();
    this.#taken();
  }

  /** Tells the sums of the piece before, while the next is added up. */
  async #tell(add?: () => Adding): Promise<void> {
    const before = this.#adding;
    await before?.done;
    const all = before && new Uint8Array(this.#all, 0, before.sums.byteLength * this.communicator.size);
    const told = before && this.communicator.allGather(bytesOf(before.sums), all);
    this.#adding = add?.();
    // Should the line fail, that is told and not this.
    this.#adding?.done.catch(() => {});
    await told;
    this.#take = before?.take;
  }

  #taken(): void {
    this.#take?.();
    this.#take = undefined;
  }
}

const bytesOf = <Buffer extends ArrayBufferLike>({ buffer, byteOffset, byteLength }: Float32Array<Buffer>) =>
  new Uint8Array(buffer, byteOffset, byteLength);
