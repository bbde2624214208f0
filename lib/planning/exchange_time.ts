/** How long ranks exchange gradients, and how much of it the GPU computes meanwhile. */
import { stagedPieces } from "../distributed/gradients.ts";

/** Bytes of gradients that a rank's host takes in a second. */
export interface HostRates {
  /** Copied from the GPU's memory and back to it, by the thread of the event loop. */
  copies: number;
  /** Added up, of all ranks, by the threads that it has for that. */
  sums: number;
}

/**
 * What a host is taken for that has four cores for a rank: two threads add up. Processor time of two cores of an AMD
 * EPYC, of 64 ranks' parts (bench/ranks.ts).
 */
export const HOST: HostRates = { copies: 5.9e9, sums: 16.8e9 };

/** A host of so many threads for sums, each of which adds up so much; without one the event loop's does both. */
export const hostOf = ({ copies, sums }: HostRates, threads: number): HostRates =>
  threads > 0 ? { copies, sums: threads * sums } : { copies: 1 / (1 / copies + 1 / sums), sums };

/** Bytes of a gradient's element. */
const ELEMENT = 4;

/**
 * Seconds from the beginning of a backward pass until the sums of all gradients are on the GPU. Pieces go one after the
 * other: while one is on the line, others are copied and added up. The GPU waits where too many are on their way.
 *
 * @param sums how many gradients there are in each, in their order; those of a row are complete together, after a part
 * of the pass as large as they are, but the last: embeddings are no product.
 * @param backward seconds of the pass.
 * @param link seconds that the line needs for all.
 */
export function exchangeTime(
  sums: readonly (readonly number[])[],
  backward: number,
  link: number,
  { copies, sums: added }: HostRates,
): number {
  const rows = sums.map((row) => row.reduce((sum, count) => sum + count, 0));
  const elements = rows.reduce((sum, count) => sum + count, 0);
  const last = rows.at(-1)!;
  const computed = rows.length > 1 ? elements - last : elements;
  const staged = stagedPieces(sums.flat().length);
  const sent: number[] = [];
  let [gpu, line, after] = [0, 0, 0];
  sums.forEach((row, i) => {
    const work = i === rows.length - 1 && rows.length > 1 ? 0 : backward * rows[i] / computed;
    row.forEach((count, ofRow) => {
      const free = sent.length < staged ? 0 : sent[sent.length - staged];
      gpu = Math.max(gpu, free) + (ofRow === 0 ? work : 0);
      const [own, copy, add] = [
        link * count / elements,
        ELEMENT * count / copies,
        ELEMENT * count / added,
      ];
      line = Math.max(line, gpu) + Math.max(own, copy, add);
      sent.push(line);
      // What comes of the last one when it has been sent: sums, and their way back.
      after = add + own / 2 + copy / 2;
    });
  });
  return line + after;
}
