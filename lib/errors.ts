/** Exit status of the command line: 1 the run failed, 2 wrong usage or configuration, 130 a signal stopped it. */
export type FailureStatus = 1 | 2 | 130;

/**
 * A mistake that a user can mend: the message says what was expected, what was found, where, and what to do. The
 * command line prints it without a stack trace; every other error is a defect of this program and keeps its stack.
 */
export class UserError extends Error {
  override name = "UserError";
  constructor(message: string, readonly status: FailureStatus = 1) {
    super(message);
  }
}

/** Beyond so many characters a word is no mistyped name. */
const LONGEST_TYPO = 200;

/** The candidate closest to `word` by edit distance, or undefined where none is near enough to be a likely typo. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  if (word.length > LONGEST_TYPO) return undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    // The word itself is there, and something else is wrong with it.
    if (candidate === word) continue;
    // No distance is below the difference in length, and a hostile word may be long.
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
