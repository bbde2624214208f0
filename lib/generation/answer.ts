/** An answer in text: from a prompt to tokens, and from tokens to pieces of text. */
import { checkIds } from "../data/pair_of.ts";
import type { TokenizerPool } from "../data/pool.ts";
import { inArea, UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { AnswerText } from "./answer_text.ts";
import type { AnswerEnd } from "./pieces.ts";
import type { Generator, Sampling } from "./request.ts";
import { type GenerationConfig, samplingOf } from "./sampling.ts";
import { untilStop } from "./stop.ts";

/**
 * How an answer is made; every field may be left out. How tokens are drawn is then as the model's
 * generation_config.json says: without do_sample the most likely one is taken each time.
 */
export interface AnswerOptions extends Partial<Sampling> {
  /** Most tokens of it: what generation_config.json says, or 256, and no more than `maxLength` leaves. */
  maxNewTokens?: number;
  /** Texts that end it, and are no part of it. */
  stop?: readonly string[];
  /** Ends it: its reason is thrown. */
  signal?: AbortSignal;
}

/**
 * An answer on its way: awaited it is the whole text; iterated, pieces that join to it, none of which splits a
 * character.
 */
export interface Answer extends AsyncIterable<string>, Pick<Promise<string>, "then" | "catch" | "finally"> {
  /** How it ended; undefined before. */
  readonly end?: AnswerEnd;
}

const USUAL_TOKENS = 256;

/** What answers. */
export interface Answerer {
  pool: TokenizerPool;
  generator: Generator;
  generationConfig: GenerationConfig;
  /** Tokens that end an answer. */
  eosTokenIds: readonly number[];
  /** Rows of the model's embedding. */
  vocabSize: number;
}

/**
 * The pieces of an answer to a user's message or to a conversation, and how it ended.
 * @throws {UserError} for options that are none, and for a prompt that the model cannot be given.
 */
export async function* answerTo(
  prompt: string | readonly Message[],
  { stop: stops = [], signal, ...options }: AnswerOptions,
  { pool, generator, generationConfig, eosTokenIds, vocabSize }: Answerer,
): AsyncGenerator<string, AnswerEnd> {
  const { maxNewTokens = generationConfig.maxNewTokens ?? USUAL_TOKENS, ...given } = options;
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
      `the prompt has ${ids.length} tokens, and maxLength is ${positions}: load the model with a larger one ` +
        "(--max_length)",
    );
  });
  const answer: number[] = [];
  const text = new AnswerText(pool, stops);
  const edges = new Edges();
  const end: AnswerEnd = { finishReason: "length", tokens: 0, promptTokens: ids.length, text: "" };
  const most = Math.min(maxNewTokens, positions - ids.length);
  const request = { ids, maxNewTokens: most, sampling, eosTokenIds, top: 0, echo: false };
  for await (const { id } of generator.tokens(request, signal)) {
    end.tokens++;
    if (eosTokenIds.includes(id)) {
      end.finishReason = "stop";
      break;
    }
    answer.push(id);
    const piece = edges.without(await text.next(id));
    if (piece !== "") yield piece;
    if (text.isStopped) break;
  }
  const rest = edges.without(await text.last());
  if (rest !== "") yield rest;
  if (text.isStopped) end.finishReason = "stop";
  // As a whole: a decoder may take away what it has given before, a space for one.
  const [whole] = await pool.texts([answer], "the answer", { skipSpecialTokens: true });
  const { text: shown, stop } = untilStop(whole, stops);
  end.text = (stop === undefined ? whole : shown).trim();
  return end;
}

/** Leaves out the white space at both ends of a text that comes in pieces. */
class Edges {
  #isBegun = false;
  #space = "";

  without(piece: string): string {
    const text = this.#isBegun ? this.#space + piece : piece.trimStart();
    const kept = text.trimEnd();
    this.#isBegun ||= kept !== "";
    this.#space = text.slice(kept.length);
    return kept;
  }
}
