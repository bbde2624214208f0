/** What is wrong with a pattern of `unfrozen_parameters`, if anything is. */
export function patternProblem(pattern: string): string | undefined {
  if (ROWS.test(pattern)) {
    return "training some rows of a matrix is not available: leave out the range at the end";
  }
  try {
    namePattern(pattern);
  } catch (error) {
    return (error as SyntaxError).message;
  }
}

/** A range of rows after the name. */
const ROWS = /.\[\d*(:\d*)?\]$/;

/**
 * A regular expression of parameters' names, as axolotl reads it: it has to fit from a name's beginning on, and a full stop is one,
 * unless a + comes after it.
 * @throws {SyntaxError} where it is none.
 */
export const namePattern = (pattern: string): RegExp =>
  new RegExp(`^(?:${pattern.replace(/(?<!\\)\.(?!\+)/g, "\\.")})`, "u");
