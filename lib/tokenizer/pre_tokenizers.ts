import { show } from "../text/json.ts";
import { toByteLevel } from "./byte_level.ts";
import type { Fields } from "./fields.ts";
import { readPattern } from "./read_pattern.ts";
import { expression, literal, type Pattern } from "./regex.ts";
import { NUMBERS, PUNCTUATION } from "./unicode.ts";

/** The pieces of a text, none of them empty, and of each what `Section.first` is of a section. */
export class Pieces {
  readonly texts: string[] = [];
  readonly first: number[] = [];

  /** @param placed whether `first` is kept. */
  constructor(readonly placed: boolean) {}

  /** Adds `text`, which begins `start` characters behind the start of one whose `first` is given. */
  push(text: string, start: number, first: number): void {
    if (text === "") return;
    this.texts.push(text);
    if (this.placed) this.first.push(Math.max(0, first - start));
  }
}

/** Cuts a text into pieces. */
export type Cut = (text: string, first: number, pieces: Pieces) => void;

export interface PreTokenizer {
  /** Steps, each of which cuts the pieces of the one before. */
  cuts: Cut[];
  /** Whether a step asks for `Section.first`. */
  placed: boolean;
  /** What becomes of a piece after the last step, whatever stands beside it. */
  finish?: (piece: string) => string;
}

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = typeof BEHAVIORS[number];

/** GPT-2's words. */
const WORDS = expression(
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
);
const SPACE = expression(/\p{White_Space}/gu);
const ASCII_PUNCTUATION = String.raw`!-\/:-@\[-\x60\{-~`;
const PUNCTUATION_MARK = expression(new RegExp(`[${ASCII_PUNCTUATION}${PUNCTUATION}]`, "gu"));
const NUMBER = expression(new RegExp(`[${NUMBERS}]`, "gu"));
/** Words and what is neither word nor space, of the `regex` of Rust. */
const WORDS_AND_SIGNS = expression(
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu,
);

/** The pre-tokenizer that a tokenizer.json describes, as `tokenizers` (Rust) 0.23 reads and runs it. */
export function readPreTokenizer(fields: Fields): PreTokenizer {
  const steps = flatten(fields);
  const read = steps.map(readStep);
  const last = read.at(-1);
  const cuts = read.flatMap(({ cut, finish }, i) => {
    const own = cut ? [cut] : [];
    if (!finish || i === read.length - 1) return own;
    return [
      ...own,
      (text: string, first: number, pieces: Pieces) =>
        pieces.push(finish(text), 0, first >= text.length ? Infinity : finish(text.slice(0, first)).length),
    ];
  });
  return { cuts, placed: read.some(({ placed }) => placed), finish: last?.finish };
}

function flatten(fields: Fields): Fields[] {
  return fields.type === "Sequence" ? fields.list("pretokenizers").flatMap(flatten) : [fields];
}

interface Step {
  cut?: Cut;
  finish?: (piece: string) => string;
  placed?: boolean;
}

function readStep(fields: Fields): Step {
  const { type } = fields;
  switch (type) {
    case "ByteLevel": {
      const spaced = fields.flag("add_prefix_space");
      fields.flag("trim_offsets");
      const words = fields.flag("use_regex", true) ? splitting(WORDS, "Isolated") : undefined;
      if (!spaced) return { cut: words, finish: toByteLevel };
      return {
        cut: prefixing(" ", (text) => !text.startsWith(" "), words),
        finish: toByteLevel,
      };
    }
    case "Whitespace":
      return { cut: splitting(WORDS_AND_SIGNS, "Removed", true) };
    case "WhitespaceSplit":
      return { cut: splitting(SPACE, "Removed") };
    case "BertPreTokenizer":
      return { cut: chained(splitting(SPACE, "Removed"), splitting(PUNCTUATION_MARK, "Isolated")) };
    case "Punctuation":
      return { cut: splitting(PUNCTUATION_MARK, fields.oneOf("behavior", BEHAVIORS, "Isolated")) };
    case "Digits":
      return { cut: splitting(NUMBER, fields.flag("individual_digits") ? "Isolated" : "Contiguous") };
    case "Split": {
      const behavior = fields.oneOf("behavior", BEHAVIORS);
      return { cut: splitting(readPattern(fields, "pattern"), behavior, fields.flag("invert")) };
    }
    case "CharDelimiterSplit":
      return { cut: splitting(literal(fields.character("delimiter")), "Removed") };
    case "FixedLength":
      return { cut: fixedLength(fields) };
    case "Metaspace":
      return metaspace(fields);
  }
  throw fields.refusal(`the pre-tokenizer ${show(type)} is not supported`);
}

function chained(one: Cut, other: Cut): Cut {
  return (text, first, pieces) => {
    const between = new Pieces(pieces.placed);
    one(text, first, between);
    for (const [i, piece] of between.texts.entries()) other(piece, between.first[i] ?? 0, pieces);
  };
}

/** Puts a text in front of those that `wanted` says, then goes on. */
function prefixing(prefix: string, wanted: (text: string, first: number) => boolean, next?: Cut): Cut {
  return (text, first, pieces) => {
    if (wanted(text, first)) {
      text = prefix + text;
      if (first > 0) first += prefix.length;
    }
    if (next) next(text, first, pieces);
    else pieces.push(text, 0, first);
  };
}

/** Cuts where a pattern matches; with `invert` what it matches and what is between change places. */
function splitting(pattern: Pattern, behavior: Behavior, invert = false): Cut {
  return (text, first, pieces) => {
    if (behavior === "Isolated" && !pieces.placed) {
      const tiles = pattern.tiles(text);
      if (tiles) {
        for (const tile of tiles) pieces.texts.push(tile);
        return;
      }
    }
    const found = pattern.matches(text);
    const parts = new Parts();
    let from = 0;
    for (let i = 0; i < found.length; i += 2) {
      if (found[i] > from) parts.add(from, found[i], invert);
      parts.add(found[i], from = found[i + 1], !invert);
    }
    if (from < text.length) parts.add(from, text.length, invert);
    parts.each(behavior, (start, end) => pieces.push(text.slice(start, end), start, first));
  };
}

/** Parts of a text one after the other, each a match or not. */
class Parts {
  readonly #ends: number[] = [];
  readonly #matched: boolean[] = [];
  #start = -1;

  add(start: number, end: number, matched: boolean): void {
    if (this.#start < 0) this.#start = start;
    this.#ends.push(end);
    this.#matched.push(matched);
  }

  each(behavior: Behavior, take: (start: number, end: number) => void): void {
    const ends = this.#ends;
    const matched = this.#matched;
    const joined = joinedTo(behavior, matched);
    let start = this.#start;
    for (let i = 0; i < ends.length; i++) {
      if (behavior === "Removed") {
        if (!matched[i]) take(start, ends[i]);
      } else if (i + 1 < ends.length && joined(i + 1)) {
        continue;
      } else {
        take(start, ends[i]);
      }
      start = ends[i];
    }
  }
}

/** Whether a part belongs to the piece of the one before it. */
function joinedTo(behavior: Behavior, matched: boolean[]): (i: number) => boolean {
  switch (behavior) {
    case "Contiguous":
      return (i) => matched[i] === matched[i - 1];
    case "MergedWithPrevious":
      return (i) => matched[i] && !matched[i - 1];
    case "MergedWithNext":
      return (i) => matched[i - 1] && !matched[i];
  }
  return () => false;
}

function fixedLength(fields: Fields): Cut {
  const length = fields.count("length", 5);
  if (length === 0) throw fields.refusal("a length of 0 is not supported");
  return (text, first, pieces) => {
    let start = 0;
    let end = 0;
    let characters = 0;
    for (const character of text) {
      end += character.length;
      if (++characters < length) continue;
      pieces.push(text.slice(start, end), start, first);
      [start, characters] = [end, 0];
    }
    pieces.push(text.slice(start), start, first);
  };
}

function metaspace(fields: Fields): Step {
  const replacement = fields.character("replacement");
  const scheme = fields.oneOf("prepend_scheme", ["always", "first", "never"], "always");
  if (fields.json.add_prefix_space === false && scheme !== "never") {
    throw fields.refusal("add_prefix_space does not go with prepend_scheme");
  }
  const split = fields.flag("split", true);
  const next = split ? splitting(literal(replacement), "MergedWithNext") : undefined;
  const marked = prefixing(
    replacement,
    (text, first) =>
      scheme !== "never" && !text.startsWith(replacement) && (scheme === "always" || first > 0),
    next,
  );
  return {
    cut: (text, first, pieces) => marked(text.replaceAll(" ", () => replacement), first, pieces),
    placed: scheme === "first",
  };
}
