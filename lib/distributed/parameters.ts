/** What ranks exchange once gradients are summed: by way of the host, since WebGPU knows no other. */
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader, dtypeOf } from "../gpu/readback.ts";
import type { ParameterChunk, TrainedParameter } from "../parameters/parameters.ts";
import { floatsOf } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Adds up the gradients of a table that the first stage of a pipeline reads embeddings from and the last one is its
 * head with, in the place of both: those of the head first, as in one process a micro-batch has them.
 */
export async function sumTiedGradients(
  gpu: Gpu,
  pipeline: Communicator,
  pieces: readonly Pick<TrainedParameter, "gradients" | "rows" | "spec">[],
): Promise<void> {
  const isFirst = pipeline.rank === 0;
  const other = isFirst ? pipeline.size - 1 : 0;
  for (const { gradients, rows, spec } of pieces) {
    let at = 0;
    for await (const piece of readerOf(gpu, gradients, rows * spec.columns).pieces(gradients.name)) {
      const own = Float32Array.from(piece);
      const sent = pipeline.send(new Uint8Array(own.buffer), other);
      const theirs = floatsOf(await pipeline.receive(other));
      await sent;
      const [head, embedding] = isFirst ? [theirs, own] : [own, theirs];
      writeTensor(gpu, gradients, head.map((value, i) => value + embedding[i]), at);
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
