/** The processes of one run, its ranks, and what they tell each other. */

/** One rank's end of the line to the others. Every rank calls the same methods in the same order. */
export interface Communicator {
  /** Which of the ranks this one is, from 0. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly size: number;
  /** What each rank gives, in the order of ranks; lengths may differ. */
  allGather(own: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>[]>;
  /** What one rank has, on all of them; of the others nothing is asked for. */
  broadcast(own: Uint8Array<ArrayBuffer> | undefined, from: number): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Gives a part to each rank; returns the parts that this one was given, in the order of ranks.
   *
   * @param parts all of them, one after the other, of equal lengths.
   */
  allToAll(parts: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}

/** The one rank of a run that is alone. */
export const alone: Communicator = {
  rank: 0,
  size: 1,
  allGather: (own) => Promise.resolve([own]),
  broadcast: (own) => Promise.resolve(own!),
  allToAll: (parts) => Promise.resolve(parts),
};

/** Where the part of a rank begins and ends among `count` things in a row: parts differ by one at most. */
export function shareOf(
  count: number,
  { rank, size }: Pick<Communicator, "rank" | "size">,
): [from: number, to: number] {
  return [Math.floor(count * rank / size), Math.floor(count * (rank + 1) / size)];
}
