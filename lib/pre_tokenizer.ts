import { isObject } from "./json.ts";

/** GPT-2's split of text into words, as tokenizers (Rust) writes it inside its `ByteLevel`. */
const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/**
 * The same `pre_tokenizer` of a tokenizer.json in terms that @huggingface/tokenizers splits as tokenizers (Rust) does.
 * Its `ByteLevel` takes JavaScript's white space for Unicode's (they differ at U+0085 and U+FEFF) and its `Digits` knows
 * no number but 0 to 9; its `Split` has the Unicode classes right, so both are written as one.
 */
export function withUnicodeClasses(preTokenizer: unknown): unknown {
  if (!isObject(preTokenizer)) return preTokenizer;
  const { type } = preTokenizer;
  if (type === "Sequence" && Array.isArray(preTokenizer.pretokenizers)) {
    return { ...preTokenizer, pretokenizers: preTokenizer.pretokenizers.map(withUnicodeClasses) };
  }
  if (type === "Digits") return isolate(String.raw`\p{N}${preTokenizer.individual_digits ? "" : "+"}`);
  // The space in front would have to come between the two steps.
  if (type !== "ByteLevel" || preTokenizer.use_regex === false || preTokenizer.add_prefix_space) {
    return preTokenizer;
  }
  return {
    type: "Sequence",
    pretokenizers: [isolate(GPT2_WORDS), { ...preTokenizer, use_regex: false }],
  };
}

const isolate = (regex: string) => ({
  type: "Split",
  pattern: { Regex: regex },
  behavior: "Isolated",
  invert: false,
});
