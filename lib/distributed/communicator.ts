/** The processes of one run, its ranks, and what they tell each other. */

/** One rank's end of the line to the others. Every rank calls the same methods in the same order. */
export interface Communicator {
  /** Which of the ranks this one is, from 0. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly size: number;
  /**
   * What each rank gives, in the order of ranks; lengths may differ, but not where `into` is given.
   *
   * @param into memory of what is returned, as long as all of it. Ranks then have to be about to call it (`meet`):
   * whoever waits in it has a core at work.
   */
  allGather(own: Uint8Array, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>[]>;
  /**
   * Gives bytes to one rank, which has to receive them: those of one sender come in the order in which they were sent.
   *
   * @returns when they may be changed. Whoever waits for that before it receives may wait for one who waits likewise.
   */
  send(bytes: Uint8Array<ArrayBuffer>, to: number): Promise<void>;
  /** What another rank has sent and was not received yet. */
  receive(from: number): Promise<Uint8Array<ArrayBuffer>>;
  /** A line between those alone that give the same number, in the order that they have here. */
  split(color: number): Promise<Communicator>;
  /** Puts what one rank has there into as long memory of the others. They have to be about to call it (`meet`). */
  broadcast(bytes: Uint8Array<ArrayBuffer>, from: number): Promise<void>;
  /** Waits until all ranks have come to it. */
  meet(): Promise<void>;
  /**
   * Gives a part to each rank, and takes those that this one is given, in the order of ranks. They have to be about to
   * call it, as `allGather` with `into`.
   *
   * @param parts all of them, one after the other, of equal lengths.
   * @param into what they are given, as long as `parts`.
   */
  allToAll(parts: Uint8Array, into: Uint8Array): Promise<void>;
}

/** The one rank of a run that is alone. */
export const alone: Communicator = {
  rank: 0,
  size: 1,
  allGather: (own, into = new Uint8Array(own.length)) => {
    into.set(own);
    return Promise.resolve([into]);
  },
  send: () => Promise.reject(new RangeError("there is no other rank")),
  receive: () => Promise.reject(new RangeError("there is no other rank")),
  split: () => Promise.resolve(alone),
  broadcast: () => Promise.resolve(),
  meet: () => Promise.resolve(),
  allToAll: (parts, into) => Promise.resolve(into.set(parts)),
};

/** Where the part of a rank begins and ends among `count` things in a row: parts differ by one at most. */
export function shareOf(
  count: number,
  { rank, size }: Pick<Communicator, "rank" | "size">,
): [from: number, to: number] {
  return [Math.floor(count * rank / size), Math.floor(count * (rank + 1) / size)];
}
