/** Which of llama.cpp's ways to split a text (`tokenizer.ggml.pre`) a tokenizer.json's own is. */
import { isObject } from "../text/json.ts";

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const CASED = String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`;
const UPPER = String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`;
const SLASHED = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/**
 * By the components of a `pre_tokenizer`, and whether whole pieces that are tokens stay whole (`ignore_merges`):
 * names of llama.cpp's `src/llama-vocab.cpp`. Where it has more than one name for a way, the first that it had.
 *
 * llama.cpp's own converter looks a name up by a hash of the ids of one text, which every change of the vocabulary
 * changes; what splits a text is the expression.
 */
const WAYS: readonly { pre: string; parts: readonly string[]; ignoreMerges: boolean }[] = [
  { pre: "gpt-2", parts: ["gpt-2"], ignoreMerges: false },
  { pre: "smollm", parts: ["digits", "gpt-2"], ignoreMerges: false },
  {
    pre: "llama-bpe",
    parts: [String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}${REST}`],
    ignoreMerges: true,
  },
  {
    pre: "dbrx",
    parts: [String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}${REST}`],
    ignoreMerges: false,
  },
  {
    pre: "qwen2",
    parts: [String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${REST}`],
    ignoreMerges: false,
  },
  {
    pre: "gpt-4o",
    parts: [String.raw`${CASED}${CONTRACTIONS}?|${UPPER}${CONTRACTIONS}?|\p{N}{1,3}${SLASHED}`],
    ignoreMerges: false,
  },
  { pre: "tekken", parts: [String.raw`${CASED}|${UPPER}|\p{N}${SLASHED}`], ignoreMerges: true },
];

/** The name of a byte-level tokenizer's way, or undefined where llama.cpp has none that is the same. */
export function preTokenizerName(preTokenizer: unknown, ignoreMerges: boolean): string | undefined {
  const parts = partsOf(preTokenizer);
  const way = WAYS.find((way) => way.ignoreMerges === ignoreMerges && String(way.parts) === String(parts));
  return way?.pre;
}

/** What each component does, by a word or its expression; undefined for one that is not known. */
function partsOf(component: unknown): string[] | undefined {
  if (!isObject(component)) return undefined;
  const { type, pattern } = component;
  switch (type) {
    case "Sequence": {
      const list = Array.isArray(component.pretokenizers)
        ? component.pretokenizers.map(partsOf)
        : [undefined];
      return list.every((parts) => parts !== undefined) ? list.flat() : undefined;
    }
    case "ByteLevel":
      if (component.add_prefix_space === true) return undefined;
      return component.use_regex === false ? [] : ["gpt-2"];
    case "Digits":
      return component.individual_digits === true ? ["digits"] : undefined;
    case "Split": {
      const isSplit = component.behavior === "Isolated" && component.invert !== true;
      return isSplit && isObject(pattern) && typeof pattern.Regex === "string" ? [pattern.Regex] : undefined;
    }
  }
  return undefined;
}
