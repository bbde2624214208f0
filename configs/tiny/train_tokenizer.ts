/**
 * A byte-level byte-pair encoding learnt from text, as GPT-2's: the smallest trainer that gives a tokenizer.json which
 * Hugging Face's tokenizers load. Every byte has a token of its own, so any text can be encoded.
 */

/** How GPT-2 cuts text into words before merging; tokenizers' ByteLevel does the same with use_regex. */
const WORD = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** GPT-2's names of the 256 bytes: printable ones are themselves, the rest are letters from U+0100 on. */
function byteNames(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(printable ? byte : next++);
  });
}

/**
 * The contents of tokenizer.json: `special` tokens first, then the bytes, then merges until there are `size` entries.
 * Among equally frequent pairs the one that sorts first is merged, so that the same text gives the same tokenizer.
 */
export function trainTokenizer(texts: string[], size: number, special: string[]): Record<string, unknown> {
  const names = byteNames();
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(WORD) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts].map(([word, count]) => ({
    pieces: Array.from(new TextEncoder().encode(word), (byte) => names[byte]),
    count,
  }));
  const vocabulary = [...special, ...names.toSorted()];
  const merges: [string, string][] = [];
  while (vocabulary.length < size) {
    const pair = mostFrequentPair(words);
    if (!pair) {
      throw new Error(`the text has too few words for ${size} tokens: ${vocabulary.length} were found`);
    }
    merges.push(pair);
    vocabulary.push(pair[0] + pair[1]);
    for (const word of words) word.pieces = merge(word.pieces, pair);
  }
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges,
    },
  };
}

function mostFrequentPair(words: { pieces: string[]; count: number }[]): [string, string] | undefined {
  const counts = new Map<string, number>();
  for (const { pieces, count } of words) {
    for (let i = 1; i < pieces.length; i++) {
      const key = `${pieces[i - 1]} ${pieces[i]}`; // no piece contains a space: its byte has another name
      counts.set(key, (counts.get(key) ?? 0) + count);
    }
  }
  let best: string | undefined;
  for (const [key, count] of counts) {
    const most = best === undefined ? 0 : counts.get(best)!;
    if (count > most || (count === most && key < best!)) best = key;
  }
  return best?.split(" ") as [string, string] | undefined;
}

function merge(pieces: string[], [left, right]: [string, string]): string[] {
  const merged: string[] = [];
  for (let i = 0; i < pieces.length; i++) {
    if (pieces[i] === left && pieces[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else merged.push(pieces[i]);
  }
  return merged;
}
