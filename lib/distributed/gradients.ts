import type { Gpu } from "../gpu/device.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader } from "../gpu/readback.ts";
import type { ParameterChunk } from "../parameters/parameters.ts";
import { sumOfRanks } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Puts the sum of all ranks' gradients in the place of this one's, by way of the host: WebGPU knows no other.
 *
 * @param isThere whether this rank made any; else what lies in their place counts for nothing.
 */
export async function sumGradients(
  gpu: Gpu,
  communicator: Communicator,
  chunks: readonly Pick<ParameterChunk, "gradients" | "elements">[],
  isThere: boolean,
): Promise<void> {
  const names = chunks.map((_, i) => `${i}`);
  const reader = new BatchedReader(
    gpu,
    chunks.map(({ gradients: tensor, elements: count }, i) => ({
      ...{ name: names[i], tensor, firstElement: 0, count },
    })),
  );
  for (const [i, { gradients }] of chunks.entries()) {
    let at = 0;
    for await (const piece of reader.pieces(names[i])) {
      const own = isThere ? Float32Array.from(piece) : new Float32Array(piece.length);
      writeTensor(gpu, gradients, await sumOfRanks(communicator, own), at);
      at += piece.length;
    }
  }
}
