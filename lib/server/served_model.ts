import type { Generator, Sampling } from "../generation/request.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { Vocabulary } from "../tokenizer/tokenizer.ts";

/** What is asked of a tokenizer here; a `TokenizerPool` is one. */
export interface ServedTokenizer {
  readonly vocabulary: Pick<Vocabulary, "bosToken" | "eosToken" | "chatTemplate">;
  promptIds(prompt: string | readonly Message[]): Promise<number[]>;
  idsOf(
    texts: readonly string[],
    where: string,
    options?: { addSpecialTokens?: boolean },
  ): Promise<number[][]>;
  texts(lists: number[][], where: string, options?: { skipSpecialTokens?: boolean }): Promise<string[]>;
}

/** A model that is served. */
export interface ServedModel {
  /** As requests name it. */
  name: string;
  generator: Generator;
  tokenizer: ServedTokenizer;
  /** Tokens that end an answer. */
  eosTokenIds: readonly number[];
  /** What of generation_config.json stands where a request says nothing. */
  sampling: Partial<Omit<Sampling, "seed">>;
}
