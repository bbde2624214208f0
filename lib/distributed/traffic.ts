/** How much ranks exchange in a step: what one is sent of the others; all together send as much. */
import { elementBytes } from "../gpu/memory.ts";
import type { ParameterChunk } from "../parameters/parameters.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Bytes that each of `size` ranks is sent in sums of so many numbers each (`sumOfRanks`): of its part what the others
 * have, and of theirs the sums.
 */
export const bytesOfSums = (lengths: readonly number[], size: number): number =>
  lengths.reduce((sum, length) => sum + 2 * (size - 1) * Math.ceil(length / size) * 4, 0);

/** Bytes of the weights that a rank is sent, since others update them (`shareWeights`). */
export const bytesOfWeights = (
  chunks: readonly Pick<ParameterChunk, "weights" | "elements" | "owner">[],
  { rank }: Pick<Communicator, "rank">,
): number =>
  chunks.filter(({ owner }) => owner !== rank)
    .reduce((sum, { weights, elements }) => sum + elements * elementBytes(weights), 0);
