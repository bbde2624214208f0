import { show } from "../text/json.ts";
import { toByteLevel } from "./byte_level.ts";
import { charsmap } from "./charsmap.ts";
import type { Fields } from "./fields.ts";
import { readPattern } from "./read_pattern.ts";
import {
  COMBINING_MARKS,
  CONTROL,
  LATER_THAN_NORMALIZATION,
  lowerCase,
  NONSPACING_MARKS,
} from "./unicode.ts";

/** A text on its way to be tokenized. */
export interface Section {
  text: string;
  /**
   * How many characters at its start come from the very start of the whole text, as `tokenizers` keeps count:
   * Metaspace's `prepend_scheme: first` depends on it.
   */
  first: number;
}

export type Normalizer = (section: Section) => void;

const CHINESE =
  String.raw`[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}` +
  String.raw`\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]`;

/** The normalizer that a tokenizer.json describes, as `tokenizers` (Rust) 0.23 reads and runs it. */
export function readNormalizer(fields: Fields): Normalizer {
  const { type } = fields;
  switch (type) {
    case "Sequence": {
      const normalizers = fields.list("normalizers").map(readNormalizer);
      return (section) => {
        for (const normalize of normalizers) normalize(section);
      };
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return mapping(normalForm(type));
    case "Lowercase":
      return mapping(lowerCase);
    case "StripAccents":
      return mapping(removing(COMBINING_MARKS));
    case "Strip":
      return strip(fields.flag("strip_left"), fields.flag("strip_right"));
    case "Prepend": {
      const prefix = fields.text("prepend");
      return (section) => prepend(section, prefix);
    }
    case "Replace":
      return replace(fields);
    case "Nmt":
      return mapping(nmt);
    case "Precompiled":
      return mapping(precompiled(fields));
    case "ByteLevel":
      return mapping(toByteLevel);
    case "BertNormalizer":
      return mapping(bert(fields));
  }
  throw fields.refusal(`the normalizer ${show(type)} is not supported`);
}

/** Puts a text in front of one that is not empty. */
export function prepend(section: Section, prefix: string): void {
  if (section.text === "") return;
  section.text = prefix + section.text;
  if (section.first > 0) section.first += prefix.length;
}

/** A normalizer that writes each character, or few in a row, anew. */
function mapping(map: (text: string) => string): Normalizer {
  return (section) => {
    const { text, first } = section;
    if (first > 0) section.first = first >= text.length ? Infinity : map(text.slice(0, first)).length;
    section.text = map(text);
    section.first = Math.min(section.first, section.text.length);
  };
}

function normalForm(form: string): (text: string) => string {
  const later = new RegExp(`([${LATER_THAN_NORMALIZATION}])`, "u");
  return (text) => {
    // Below U+0300 these change nothing but what is beyond ASCII.
    if (!/[^\0-\x7f]/.test(text)) return text;
    if (!later.test(text)) return text.normalize(form);
    return text.split(later).map((part, i) => i % 2 === 1 ? part : part.normalize(form)).join("");
  };
}

function removing(inside: string): (text: string) => string {
  const removed = new RegExp(`[${inside}]`, "gu");
  return (text) => text.replace(removed, "");
}

function strip(left: boolean, right: boolean): Normalizer {
  return (section) => {
    const { text } = section;
    const start = left ? text.search(/\P{White_Space}|$/u) : 0;
    const end = right ? endOfText(text, start) : text.length;
    section.text = text.slice(start, end);
    section.first = Math.max(0, section.first - start);
  };
}

/** Where the white space at the end begins. */
function endOfText(text: string, start: number): number {
  let end = text.length;
  while (end > start && /\p{White_Space}/u.test(text[end - 1])) end--;
  return end;
}

function replace(fields: Fields): Normalizer {
  const pattern = readPattern(fields, "pattern");
  const content = fields.text("content");
  if (pattern.least === 0) {
    throw fields.refusal("a pattern that matches nothing at all is not supported there");
  }
  return (section) => {
    const { text, first } = section;
    const matches = pattern.matches(text);
    if (matches.length === 0) return;
    let written = "";
    let from = 0;
    let shift = 0;
    for (let i = 0; i < matches.length; i += 2) {
      const [start, end] = [matches[i], matches[i + 1]];
      written += text.slice(from, start) + content;
      from = end;
      // What replaces characters counts as coming from the last of them.
      if (end <= first) shift += content.length - (end - start);
      else if (start < first) shift -= first - start;
    }
    section.text = written + text.slice(from);
    section.first = Math.max(0, first + shift);
  };
}

function nmt(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]/g, "")
    .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ");
}

function precompiled(fields: Fields): (text: string) => string {
  const replacement = charsmap(fields.text("precompiled_charsmap"));
  if (!replacement) throw fields.refusal("precompiled_charsmap is none of SentencePiece");
  const clusters = new Intl.Segmenter("und", { granularity: "grapheme" });
  const known = new Map<string, string>();
  const map = (cluster: string): string => {
    if (new TextEncoder().encode(cluster).length < 6) {
      const whole = replacement(cluster);
      if (whole !== undefined) return whole;
    }
    return Array.from(cluster, (character) => replacement(character) ?? character).join("");
  };
  return (text) => {
    let written = "";
    // Intl is slow; away from other characters, those of ASCII stand alone.
    for (const [i, part] of text.split(/((?<![^\0-\x7f])[ -~]+(?![^\0-\x7f]))/).entries()) {
      for (const segment of i % 2 === 1 ? part : clusterTexts(clusters, part)) {
        let mapped = known.get(segment);
        if (mapped === undefined) {
          mapped = map(segment);
          if (known.size < 2 ** 16 && segment.length < 16) known.set(segment, mapped);
        }
        written += mapped;
      }
    }
    return written;
  };
}

function* clusterTexts(clusters: Intl.Segmenter, text: string): Iterable<string> {
  if (text !== "") { for (const { segment } of clusters.segment(text)) yield segment; }
}

function bert(fields: Fields): (text: string) => string {
  const clean = fields.flag("clean_text");
  const chinese = fields.flag("handle_chinese_chars");
  const lower = fields.flag("lowercase");
  const accents = fields.json.strip_accents === null || fields.json.strip_accents === undefined
    ? lower
    : fields.flag("strip_accents");
  const control = new RegExp(`[\\0\\ufffd${CONTROL}]`, "gu");
  const decompose = normalForm("NFD");
  const withoutMarks = removing(NONSPACING_MARKS);
  const ideographs = new RegExp(CHINESE, "gu");
  return (text) => {
    if (clean) text = text.replace(control, "").replace(/\p{White_Space}/gu, " ");
    if (chinese) text = text.replace(ideographs, " $& ");
    if (accents) text = withoutMarks(decompose(text));
    return lower ? lowerCase(text) : text;
  };
}
