import { runInNewContext } from "node:vm";

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
 * A regular expression of parameters' names, as axolotl reads it: it has to fit from a name's beginning on, and a
 * full stop is one, unless a + comes after it.
 * @throws {SyntaxError} where it is none.
 */
export const namePattern = (pattern: string): RegExp =>
  new RegExp(`^(?:${pattern.replace(/(?<!\\)\.(?!\+)/g, "\\.")})`, "u");

/**
 * A regular expression of whole names of modules, as PEFT takes one (`re.fullmatch`).
 * @throws {SyntaxError} where it is none.
 */
export const modulePattern = (pattern: string): RegExp => new RegExp(`^(?:${pattern})$`, "u");

/**
 * Milliseconds for all patterns on all names, which usually take some: one with repetitions of repetitions may take
 * years.
 */
export const PATIENCE = 3000;

const SCRIPT = `for (const source of sources) {
  const expression = new RegExp(source, "u");
  found.push(names.filter((name) => expression.test(name)));
}`;

/**
 * The names that each of `expressions` fits, up to the first that does not come to an end. They run in a context of
 * their own, the one place where V8 stops a regular expression.
 */
export function namesFitting(expressions: readonly RegExp[], names: readonly string[]): Set<string>[] {
  const found: string[][] = [];
  try {
    const sources = expressions.map(({ source }) => source);
    runInNewContext(SCRIPT, { sources, names, found }, { timeout: PATIENCE });
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
  }
  return found.map((names) => new Set(names));
}
