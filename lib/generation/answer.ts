/** An answer in text: from a prompt to tokens, and from tokens to pieces of text. */
import { checkIds } from "../data/pair_of.ts";
import type { TokenizerPool } from "../data/pool.ts";
import { inArea, UserError } from "../errors.ts";
import { show } from "../json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { type AnswerEnd, Pieces } from "./pieces.ts";
import type { Generator, Sampling } from "./request.ts";
import { type GenerationConfig, samplingOf } from "./sampling.ts";
import { untilStop } from "./stop.ts";

/**
 * How an answer is made; every field may be left out. How tokens are drawn is then as the model's generation_config.json says:
 * without do_sample the most likely one is taken each time.
 */
export interface AnswerOptions extends Partial<Sampling> {
  /** Most tokens of it: 256, and what `maxLength` leaves. */
  maxNewTokens?: number;
  /** Texts that end it, and are no part of it. */
  stop?: readonly string[];
  /** Ends it: its reason is thrown. */
  signal?: AbortSignal;
}

/** An answer on its way: awaited it is the whole text; iterated, pieces that join to it, none of which splits a character. */
export interface Answer extends AsyncIterable<string>, Pick<Promise<string>, "then" | "catch" | "finally"> {
  /** How it ended; undefined before. */
  readonly end?: AnswerEnd;
}

/** What answers. */
export interface Answerer {
  pool: TokenizerPool;
  generator: Generator;
  generationConfig: GenerationConfig;
  /** Rows of the model's embedding. */
  vocabSize: number;
}

/**
 * The pieces of an answer to a user's message or to a conversation, and how it ended.
 * @throws {UserError} for options that are none, and for a prompt that the model cannot be given.
 */
export async function* answerTo(
  prompt: string | readonly Message[],
  { maxNewTokens = 256, stop: stops = [], signal, ...given }: AnswerOptions,
  { pool, generator, generationConfig, vocabSize }: Answerer,
): AsyncGenerator<string, AnswerEnd> {
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    throw new UserError(`maxNewTokens: expected a whole number, found ${show(maxNewTokens)}`, 2);
  }
  if (!Array.isArray(stops) || !stops.every((stop) => typeof stop === "string" && stop !== "")) {
    throw new UserError(`stop: expected a list of texts, none of them empty, found ${show(stops)}`, 2);
  }
  const sampling = samplingOf(given, generationConfig);
  const { positions } = generator;
  const ids = await inArea("DATA_INVALID", async () => {
    const ids = await pool.promptIds(prompt);
    checkIds(ids, vocabSize);
    if (ids.length === 0) throw new UserError("the prompt has no tokens");
    if (ids.length < positions) return ids;
    throw new UserError(
      `the prompt has ${ids.length} tokens, and maxLength is ${positions}: load the model with a larger one`,
    );
  });
  const { eosTokenId } = pool.vocabulary;
  // The tokenizer's own ends what was trained here, though the file may name others alone.
  const eosTokenIds = [...generationConfig.eosTokenIds, ...eosTokenId === undefined ? [] : [eosTokenId]];
  const answer: number[] = [];
  const pieces = new Pieces();
  const end: AnswerEnd = { finishReason: "length", tokens: 0, promptTokens: ids.length };
  let whole = "";
  const most = Math.min(maxNewTokens, positions - ids.length);
  const request = { ids, maxNewTokens: most, sampling, eosTokenIds, top: 0, echo: false };
  for await (const { id } of generator.tokens(request, signal)) {
    end.tokens++;
    if (eosTokenIds.includes(id)) {
      end.finishReason = "stop";
      break;
    }
    answer.push(id);
    [whole] = await pool.texts([answer], "the answer", { skipSpecialTokens: true });
    const { text, stop } = untilStop(whole, stops);
    if (stop !== undefined) {
      end.finishReason = "stop";
      whole = text;
      break;
    }
    const piece = pieces.next(text);
    if (piece !== "") yield piece;
  }
  const rest = pieces.last(whole);
  if (rest !== "") yield rest;
  return end;
}
