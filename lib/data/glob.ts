/** A step of a pattern: a character, one of a set, any one, any number within a name, or across folders. */
type Step =
  | { kind: "one"; has: (character: string) => boolean }
  | { kind: "many"; has: (character: string) => boolean; endsAfterSlash?: true };

const PART = /\*\*\/|\*\*|\*|\?|\[[^\]/]+\]|[^]/gu;

/**
 * Whether paths match a glob: `*` and `?` stand for characters within a name, `**` for any characters, `[abc]` and
 * `[!a-z]` for one of a set. It takes time in proportion to the path times the glob, whatever is in them.
 *
 * @example
 * ```ts
 * import { globOf } from "./glob.ts";
 * import assert from "node:assert/strict";
 * assert.deepEqual(["data/train-00.parquet", "data/old/train-00.parquet"].map(globOf("data/train-*")), [true, false]);
 * ```
 */
export function globOf(pattern: string): (path: string) => boolean {
  const steps = [...pattern.replace(/^\.\//, "").matchAll(PART)].map(([part]) => stepOf(part));
  return (path) => {
    let places = reach([0], steps);
    let before = "";
    for (const character of path) {
      const next: number[] = [];
      for (const place of places) {
        const step = steps[place];
        if (!step?.has(character)) continue;
        next.push(step.kind === "many" ? place : place + 1);
      }
      before = character;
      places = reach(next, steps, before);
      if (places.length === 0) return false;
    }
    return places.includes(steps.length);
  };
}

/** The places, and those after them where nothing need be matched. */
function reach(places: number[], steps: Step[], before = "/"): number[] {
  const found = new Set(places);
  for (const place of found) {
    const step = steps[place];
    if (step?.kind === "many" && (!step.endsAfterSlash || before === "/")) found.add(place + 1);
  }
  return [...found];
}

function stepOf(part: string): Step {
  const isInName = (character: string) => character !== "/";
  if (part === "**/") return { kind: "many", has: () => true, endsAfterSlash: true };
  if (part === "**") return { kind: "many", has: () => true };
  if (part === "*") return { kind: "many", has: isInName };
  if (part === "?") return { kind: "one", has: isInName };
  if (!/^\[.+\]$/u.test(part)) return { kind: "one", has: (character) => character === part };
  const [, not, set] = /^\[([!^]?)(.*)\]$/u.exec(part)!;
  const ranges = [...set.matchAll(/(.)-(.)|(.)/gu)].map(([, low, high, one]) => [low ?? one, high ?? one]);
  const isIn = (character: string) => ranges.some(([low, high]) => character >= low && character <= high);
  return { kind: "one", has: (character) => isInName(character) && isIn(character) !== (not !== "") };
}
