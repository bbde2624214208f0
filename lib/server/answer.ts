/** One answer: the model's tokens, and their text. */
import { AnswerText } from "../generation/answer_text.ts";
import type { GeneratedToken, GenerationRequest } from "../generation/request.ts";
import type { ServedModel } from "./served_model.ts";

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
  const { ids, echo, eosTokenIds, continues, maxNewTokens, stops } = request;
  const answer = new AnswerText(tokenizer, stops, continues ? ids : []);
  const prompt: GeneratedToken[] = [];
  let waitsForPrompt = echo;
  let finish = "length" as FinishReason;
  if (maxNewTokens > 0 || echo) {
    for await (const token of generator.tokens(request, signal)) {
      if (echo && prompt.length < ids.length - 1) {
        prompt.push(token);
        continue;
      }
      if (waitsForPrompt) yield { prompt, text: "" };
      waitsForPrompt = false;
      if (eosTokenIds.includes(token.id)) {
        // Its text is none of the answer's.
        yield { token, text: "" };
        finish = "stop";
        break;
      }
      yield { token, text: await answer.next(token.id) };
      if (answer.isStopped) return yield { text: "", finish: "stop" };
    }
    if (waitsForPrompt) yield { prompt, text: "" };
  }
  const text = await answer.last();
  yield { text, finish: answer.isStopped ? "stop" : finish };
}
