import { readRows } from "../lib/data/read.ts";
import { render } from "../lib/data/render.ts";
import type { Pair } from "../lib/data/pair.ts";
import { tokenizePair, type Truncation } from "../lib/data/tokenize.ts";
import { loadTokenizer } from "../lib/tokenizer/tokenizer.ts";

/** The first `count` pairs of a file as `train` reads them, with the tokenizer of a model's folder. */
export async function readPairs(
  file: string,
  folder: string,
  count: number,
  truncation: Truncation,
): Promise<Pair[]> {
  const tokenizer = await loadTokenizer(folder);
  const pairs: Pair[] = [];
  for await (const { row, where } of readRows(file)) {
    const { prompt, chosen, rejected } = render(row, tokenizer, {
      autoInsertEmptySystemMsg: true,
      usesRejected: true,
    });
    pairs.push({ ...tokenizePair(prompt, chosen, rejected, tokenizer, truncation), where });
    if (pairs.length === count) break;
  }
  return pairs;
}
