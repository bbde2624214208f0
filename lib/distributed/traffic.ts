/** How much ranks exchange in a step: what one is sent of the others; all together send as much. */
import { elementBytes } from "../gpu/memory.ts";
import type { Net } from "../graph/net.ts";
import type { ParameterChunk, TrainedParameter } from "../parameters/parameters.ts";
import type { Communicator } from "./communicator.ts";
import { sentLength } from "./rank_sums.ts";

/**
 * Bytes that each of `size` ranks is sent in sums of so many numbers each (`RankSums`): of its part what the others
 * have, and of theirs the sums.
 */
export const bytesOfSums = (lengths: readonly number[], size: number): number =>
  lengths.reduce((sum, length) => sum + 2 * (size - 1) * sentLength(length, size) / size * 4, 0);

/** Bytes of the weights that a rank is sent, since others update them (`shareWeights`). */
export const bytesOfWeights = (
  chunks: readonly Pick<ParameterChunk, "weights" | "elements" | "owner">[],
  { rank }: Pick<Communicator, "rank">,
): number =>
  chunks.filter(({ owner }) => owner !== rank)
    .reduce((sum, { weights, elements }) => sum + elements * elementBytes(weights), 0);

/**
 * Bytes that a stage of a pipeline is sent of so many tokens: what is between it and the stage before, and the gradient
 * of what is between it and the next.
 */
export const bytesOfBoundaries = (
  { received, sent }: Pick<Net, "received" | "sent">,
  tokens: number,
): number => 4 * tokens * ((received?.value.width ?? 0) + (sent?.hasGradient ? sent.value.width : 0));

/**
 * Bytes that the ends of a pipeline are sent of a table that is embedding and head (`sumTiedGradients`): the other's
 * gradient of it.
 */
export const bytesOfTiedTable = (parameters: readonly Pick<TrainedParameter, "rows" | "spec">[]): number =>
  parameters.reduce((sum, { rows, spec }) => sum + 4 * rows * spec.columns, 0);
