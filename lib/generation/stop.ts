/**
 * What of a text that grows from behind may be shown, where strings end it: nothing from the first of them on, and
 * nothing that may be the beginning of one. Of strings within each other the one that is whole first counts, so that
 * it does not matter in what pieces the text comes; once the text is whole and no `stop` was found, all of it may be
 * shown.
 *
 * @param text all that there is so far.
 * @param stops none of them empty.
 * @returns the text that may be shown, and the string that ends it, where there is one.
 *
 * @example
 * ```ts
 * import { untilStop } from "./stop.ts";
 * import assert from "node:assert/strict";
 * assert.deepEqual(untilStop("Rome.\nQues", ["\nQuestion:"]), { text: "Rome." });
 * assert.deepEqual(untilStop("Rome.\nQuestion: and", ["\nQuestion:"]), { text: "Rome.", stop: "\nQuestion:" });
 * ```
 */
export function untilStop(text: string, stops: readonly string[]): { text: string; stop?: string } {
  let found: { begin: number; stop: string } | undefined;
  for (const stop of stops) {
    const begin = text.indexOf(stop);
    if (begin < 0) continue;
    const ends = found ? found.begin + found.stop.length - (begin + stop.length) : 1;
    if (ends > 0 || (ends === 0 && begin < found!.begin)) found = { begin, stop };
  }
  if (found) return { text: text.slice(0, found.begin), stop: found.stop };
  const longest = stops.reduce((most, stop) => Math.max(most, stop.length), 0);
  for (let begin = Math.max(0, text.length - longest + 1); begin < text.length; begin++) {
    const rest = text.slice(begin);
    if (stops.some((stop) => stop.startsWith(rest))) return { text: text.slice(0, begin) };
  }
  return { text };
}
