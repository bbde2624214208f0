/** What ranks exchange of the parameters: by way of the host, since WebGPU knows no other. */
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader, dtypeOf } from "../gpu/readback.ts";
import type { ParameterChunk } from "../parameters/parameters.ts";
import { sumOfRanks } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Puts the sum of all ranks' gradients in the place of this one's.
 *
 * @param isThere whether this rank made any; else what lies in their place counts for nothing.
 */
export async function sumGradients(
  gpu: Gpu,
  communicator: Communicator,
  chunks: readonly Pick<ParameterChunk, "gradients" | "elements">[],
  isThere: boolean,
): Promise<void> {
  for (const { gradients, elements } of chunks) {
    let at = 0;
    for await (const piece of readerOf(gpu, gradients, elements).pieces(gradients.name)) {
      const own = isThere ? Float32Array.from(piece) : new Float32Array(piece.length);
      writeTensor(gpu, gradients, await sumOfRanks(communicator, own), at);
      at += piece.length;
    }
  }
}

/** Gives all ranks the weights that each has updated, as they are stored. */
export async function shareWeights(
  gpu: Gpu,
  communicator: Communicator,
  chunks: readonly Pick<ParameterChunk, "weights" | "elements" | "owner">[],
): Promise<void> {
  for (const { weights, elements, owner } of chunks) {
    const own = owner === communicator.rank
      ? readerOf(gpu, weights, elements).stored(weights.name)
      : undefined;
    const Stored = dtypeOf(weights) === "F32" ? Float32Array : Uint16Array;
    for (let at = 0; at < elements;) {
      const { value } = await own?.next() ?? {};
      const piece = new Stored((await communicator.broadcast(value && new Uint8Array(value), owner)).buffer);
      if (!own) writeTensor(gpu, weights, piece, at);
      at += piece.length;
    }
  }
}

const readerOf = (gpu: Gpu, tensor: Tensor, count: number) =>
  new BatchedReader(gpu, [{ name: tensor.name, tensor, firstElement: 0, count }]);
