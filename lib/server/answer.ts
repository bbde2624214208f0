/** One answer: the model's tokens, and their text. */
import type { GeneratedToken, GenerationRequest } from "../generation/request.ts";
import { Detokenizer } from "./detokenizer.ts";
import type { ServedModel } from "./served_model.ts";
import { Stops } from "./stops.ts";

/** An answer to be made. */
export interface AnswerRequest extends GenerationRequest {
  /** Texts that end it, and are no part of it. */
  stops: readonly string[];
  /** Whether its text goes on from the prompt's; otherwise it begins by itself. */
  continues: boolean;
}

/** Why an answer ends: the model or a stop ended it, or it has as many tokens as were asked for. */
export type FinishReason = "stop" | "length";

/** What is new of an answer. */
export interface AnswerPart {
  /** Tokens of the prompt, where these were asked for. */
  prompt?: GeneratedToken[];
  /** The next token, the one that ends the answer too. */
  token?: GeneratedToken;
  text: string;
  /** With the last part. */
  finish?: FinishReason;
}

/** The parts of an answer as they come; the last one has `finish`. */
export async function* answerParts(
  { generator, tokenizer }: ServedModel,
  request: AnswerRequest,
  signal: AbortSignal,
): AsyncGenerator<AnswerPart> {
  const { ids, echo, eosTokenIds, continues, maxNewTokens } = request;
  const detokenizer = new Detokenizer(tokenizer, continues ? ids : []);
  const stops = new Stops(request.stops);
  const prompt: GeneratedToken[] = [];
  let waitsForPrompt = echo;
  let finish: FinishReason = "length";
  if (maxNewTokens > 0 || echo) {
    for await (const token of generator.tokens(request, signal)) {
      if (echo && prompt.length < ids.length - 1) {
        prompt.push(token);
        continue;
      }
      if (waitsForPrompt) yield { prompt, text: "" };
      waitsForPrompt = false;
      const isEnd = eosTokenIds.includes(token.id);
      // The text of a token that ends it is none of the answer's.
      const text = isEnd ? "" : stops.next(await detokenizer.next(token.id));
      if (isEnd || stops.isStopped) finish = "stop";
      yield { token, text };
      if (stops.isStopped) break;
    }
    if (waitsForPrompt) yield { prompt, text: "" };
  }
  const last = stops.isStopped ? "" : stops.next(await detokenizer.last());
  if (stops.isStopped) finish = "stop";
  yield { text: last + stops.last(), finish };
}
