/** Regular expressions as a tokenizer searches with them. */
import { escaped, PatternError, translate } from "./oniguruma.ts";

/**
 * Where a pattern matches in a text, as pairs of start and end: those that Oniguruma's search finds one after the
 * other.
 */
export interface Pattern {
  matches(text: string): number[];
  /** What matches, where the matches are not empty and cover the text; else undefined. It is faster. */
  tiles(text: string): string[] | undefined;
  /** The fewest characters of a match. */
  least: number;
}

/**
 * A pattern of tokenizer.json, in the syntax of Oniguruma, as the expression of JavaScript that matches the same.
 * Only what is the same in both is translated.
 *
 * @throws {PatternError} for everything else.
 */
export function pattern(source: string): Pattern {
  const { text, least } = translate(source);
  try {
    return new Search(new RegExp(text, "gv"), least);
  } catch (error) {
    throw new PatternError((error as Error).message);
  }
}

/** A pattern that is a text. */
export function literal(text: string): Pattern {
  return new Search(new RegExp([...text].map(escaped).join("") || "(?:)", "gv"), [...text].length);
}

/** An expression of JavaScript. */
export function expression(regex: RegExp): Pattern {
  return new Search(regex, 1);
}

class Search implements Pattern {
  constructor(readonly regex: RegExp, readonly least: number) {}

  tiles(text: string): string[] | undefined {
    const found = this.#safely(() => text.match(this.regex));
    if (!found) return undefined;
    let length = 0;
    for (const piece of found) {
      if (piece === "") return undefined;
      length += piece.length;
    }
    return length === text.length ? found : undefined;
  }

  matches(text: string): number[] {
    const { regex } = this;
    const found: number[] = [];
    let from = 0;
    let last = -1;
    while (from <= text.length) {
      regex.lastIndex = from;
      const match = this.#safely(() => regex.exec(text));
      if (!match) break;
      const begin = match.index;
      const end = begin + match[0].length;
      // No match is empty right behind another one; V8 finds empty ones within a surrogate pair.
      if (begin === end && (begin === last || isWithinPair(text, begin))) {
        from = end + (text.codePointAt(end)! > 0xffff ? 2 : 1);
        continue;
      }
      found.push(begin, end);
      from = last = end;
    }
    return found;
  }

  #safely<T>(search: () => T): T {
    try {
      return search();
    } catch (error) {
      // What is kept to come back to is bounded in V8.
      if (error instanceof RangeError) {
        throw new PatternError(
          "the text is too long for this tokenizer's regular expression: shorten the row",
        );
      }
      throw error;
    }
  }
}

const isWithinPair = (text: string, i: number) =>
  text[i] >= "\udc00" && text[i] <= "\udfff" && text[i - 1] >= "\ud800" && text[i - 1] <= "\udbff";
