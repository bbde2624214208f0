/** What the stages of a pipeline tell their neighbours, and when. */
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import { readTensor } from "../gpu/program.ts";
import { floatsOf } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";
import type { Place } from "./grid.ts";

/** One pass of a stage. */
export interface StagePass {
  /** The micro-batch, from 0. */
  index: number;
  isForward: boolean;
}

/**
 * The passes of a stage for so many micro-batches, 1F1B (PipeDream, arXiv 1806.03377): as many forward as there are
 * stages after it, then one forward and one backward by turns. So it has no more than `size - rank` under way, and
 * gradients come in the order of micro-batches.
 */
export function passesOfStage(count: number, { rank, size }: Place): StagePass[] {
  const ahead = Math.min(size - 1 - rank, count);
  const passes: StagePass[] = [];
  for (let index = 0; index < count + ahead; index++) {
    if (index < count) passes.push({ index, isForward: true });
    if (index >= ahead) passes.push({ index: index - ahead, isForward: false });
  }
  return passes;
}

/** How many of so many micro-batches a stage has between their two passes at once. */
export const mostUnderWay = (count: number, { rank, size }: Place): number => Math.min(size - rank, count);

/** A stage's line to those before and after it, over which rows of a boundary's tensors go. */
export class StageLine {
  #sending: Promise<void>[] = [];

  constructor(readonly gpu: Gpu, readonly communicator: Communicator) {}

  /** Sends so many rows of a tensor to the stage after this one, or before it. */
  async send(tensor: Tensor, rows: number, to: "next" | "before"): Promise<void> {
    this.#send(new Uint8Array(await readTensor(this.gpu, tensor, 0, rows * tensor.shape[1])), to);
  }

  /** What the stage after this one sent, or the one before it. */
  async receive(from: "next" | "before"): Promise<Float32Array<ArrayBuffer>> {
    const { communicator } = this;
    return floatsOf(await communicator.receive(communicator.rank + (from === "next" ? 1 : -1)));
  }

  /** Tells a neighbour that there is no more: it receives nothing. */
  end(to: "next" | "before"): void {
    this.#send(new Uint8Array(), to);
  }

  #send(bytes: Uint8Array<ArrayBuffer>, to: "next" | "before"): void {
    const { communicator } = this;
    this.#sending.push(communicator.send(bytes, communicator.rank + (to === "next" ? 1 : -1)));
  }

  /** Waits until all is on its way. */
  async sent(): Promise<void> {
    await Promise.all(this.#sending);
    this.#sending = [];
  }
}
