/** What ranks exchange once gradients are summed: by way of the host, since WebGPU knows no other. */
import type { Gpu } from "../gpu/device.ts";
import { elementBytes, type Tensor } from "../gpu/memory.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader, dtypeOf } from "../gpu/readback.ts";
import type { ParameterChunk, TrainedParameter } from "../parameters/parameters.ts";
import { floatsOf } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";
import type { Staging } from "./staging.ts";

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

/** A part of a chunk of weights, as long as one that is on its way to the host. */
interface WeightPiece {
  weights: Tensor;
  owner: number;
  firstElement: number;
  count: number;
}

/**
 * Gives all ranks the weights that each has updated, as they are stored. While a piece is on the line the one before is
 * copied to the GPU, and those after it come from there.
 */
export async function shareWeights(
  gpu: Gpu,
  communicator: Communicator,
  chunks: readonly Pick<ParameterChunk, "weights" | "elements" | "owner">[],
  staging: Staging,
): Promise<void> {
  const pieces = chunks.flatMap((chunk) => piecesOf(chunk, staging.bytes));
  const own = pieces.filter(({ owner }) => owner === communicator.rank);
  const bytesOf = ({ weights, count }: WeightPiece) => count * elementBytes(weights);
  const begin = (index: number) => {
    if (index >= own.length) return;
    const { weights, firstElement } = own[index];
    const from = weights.offset + firstElement * elementBytes(weights);
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(
      weights.slab.buffer!,
      from,
      staging.bufferOf(index),
      0,
      bytesOf(own[index]),
    );
    gpu.device.queue.submit([encoder.finish()]);
    staging.map(index, bytesOf(own[index]));
  };
  for (let i = 0; i < staging.count; i++) begin(i);
  const memory = [new ArrayBuffer(staging.bytes), new ArrayBuffer(staging.bytes)];
  let [told, heard] = [0, 0];
  let write = () => {};
  for (const piece of pieces) {
    const { weights, owner, firstElement } = piece;
    const isOwn = owner === communicator.rank;
    const buffer = isOwn ? await staging.read(gpu, told) : memory[heard++ % 2];
    await communicator.meet();
    const sent = communicator.broadcast(new Uint8Array(buffer, 0, bytesOf(piece)), owner);
    // Should this fail, that is told and not the line's end.
    sent.catch(() => {});
    write();
    await sent;
    const Stored = dtypeOf(weights) === "F32" ? Float32Array : Uint16Array;
    write = isOwn
      ? () => {}
      : () => writeTensor(gpu, weights, new Stored(buffer, 0, piece.count), firstElement);
    if (!isOwn) continue;
    staging.release(told);
    begin(told++ + staging.count);
  }
  write();
}

/** A chunk in parts of at most so many bytes. */
function piecesOf(
  { weights, elements, owner }: Pick<ParameterChunk, "weights" | "elements" | "owner">,
  bytes: number,
): WeightPiece[] {
  // From word to word.
  const most = Math.floor(bytes / 4) * 4 / elementBytes(weights);
  return Array.from({ length: Math.ceil(elements / most) }, (_, i) => ({
    ...{ weights, owner, firstElement: i * most },
    count: Math.min(most, elements - i * most),
  }));
}

const readerOf = (gpu: Gpu, tensor: Tensor, count: number) =>
  new BatchedReader(gpu, [{ name: tensor.name, tensor, firstElement: 0, count }]);
