/** A preference pair as tokens, and what it takes in a packed row (`pack`). */

/** Token ids of a prompt and its response; the tokens from `promptLength` on carry labels. */
export interface Sequence {
  /** Tokens of the prompt and then of the response. */
  ids: number[];
  /** Tokens of the prompt. */
  promptLength: number;
}

/**
 * The two responses to one prompt; `rejected` is absent where the loss does not look at it. Of unpaired data (KTO's)
 * `chosen` is the one response that was judged, and `rejected` what `withKl` puts after its prompt.
 */
export interface Pair {
  /** The better answer after the prompt. */
  chosen: Sequence;
  /** The other one. */
  rejected?: Sequence;
  /** Of unpaired data: whether the response was judged to be a good one. */
  desirable?: boolean;
  /** The log-probabilities of both responses under the reference model, each summed over its labels; without one, 0. */
  reference?: { chosen: number; rejected: number };
  /** What was cut to fit `maxLength`: nothing, the prompt, or the responses too. */
  truncated: false | "prompt" | "response";
  /** Where the row stands, as path:line. */
  where: string;
}

/** Tokens and labels that pairs take in a packed row. */
export interface PackedSize {
  /** Tokens of the row. */
  tokens: number;
  /** Labels of both responses. */
  labels: number;
}

/** What the pairs of a run take in packed rows: the numbers of pair i at index i. */
export interface PackedSizes {
  /** Tokens of the row. */
  tokens: Uint32Array;
  /** Labels of both responses. */
  labels: Uint32Array;
  /** Tokens of the longest sequence. */
  longest: number;
}

/** The longest common beginning of the two sequences that carries no label, in tokens. */
export function sharedPrefix({ chosen, rejected }: Pair): number {
  if (!rejected) return Math.min(chosen.promptLength, chosen.ids.length);
  const limit = Math.min(chosen.promptLength, rejected.promptLength);
  let length = 0;
  while (length < limit && chosen.ids[length] === rejected.ids[length]) length++;
  return length;
}

/** Labels of a sequence: the tokens after the prompt that have a predecessor to predict them. */
const labelCount = ({ ids, promptLength }: Sequence) => ids.length - Math.max(promptLength, 1);

/** What one pair takes in a packed row; the loss may not look at `rejected`. */
export function packedSize(pair: Pair): PackedSize {
  const prefix = sharedPrefix(pair);
  const responses = responsesOf(pair);
  return {
    tokens: prefix + responses.reduce((sum, { ids }) => sum + Math.max(0, ids.length - 1 - prefix), 0),
    labels: responses.reduce((sum, response) => sum + labelCount(response), 0),
  };
}

/** The chosen response and, where the loss looks at it, the rejected one. */
export const responsesOf = ({ chosen, rejected }: Pair) => rejected ? [chosen, rejected] : [chosen];
