/** What is asked of a model that generates, and what it says: tokens alone, no text. */

/** How the next token is drawn, by transformers' names, in its order: penalties, temperature, top_k, top_p, min_p. */
export interface Sampling {
  /** 0 takes the most likely token; what logits are divided by otherwise. */
  temperature: number;
  /** The fewest likely tokens whose probabilities reach this much together; 1 for all. */
  topP: number;
  /** The most likely tokens; 0 for all. */
  topK: number;
  /** Tokens that are at least so likely relative to the most likely one; 0 for all. */
  minP: number;
  /**
   * Logits of tokens of the prompt and the answer are divided by it where positive, and multiplied where negative; 1
   * for none.
   */
  repetitionPenalty: number;
  /** Taken from the logits of tokens that the answer has; 0 for none. */
  presencePenalty: number;
  /** Taken from them as often as the answer has them; 0 for none. */
  frequencyPenalty: number;
  /** A whole number below 2^53: the same one gives the same answer, whatever is answered beside it. */
  seed: number;
}

/** The most likely token, each time. */
export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};

export { MOST_TOP } from "../gpu/choice_operations.ts";

/** One answer to be made. */
export interface GenerationRequest {
  /** The prompt; at least one token. */
  ids: readonly number[];
  /** Most tokens of the answer; with those of the prompt at most `positions` of the generator. */
  maxNewTokens: number;
  /** How its tokens are drawn. */
  sampling: Sampling;
  /** Tokens that end the answer. */
  eosTokenIds: readonly number[];
  /** How many of the likeliest tokens are told with each: 0 to `MOST_TOP`. */
  top: number;
  /** Whether the prompt's tokens are told first, all but the first, which has no probability. */
  echo: boolean;
}

/** A token, and how likely the model held it: natural logarithms of the softmax of the logits as they are. */
export interface GeneratedToken {
  /** The token. */
  id: number;
  /** Of the token, as the model held it. */
  logProbability: number;
  /** The likeliest tokens at its place, the likeliest first; where `id` is the first, the figures are the same bits. */
  top: { id: number; logProbability: number }[];
}

/** Answers requests; many at a time. */
export interface Generator {
  /** Most tokens of a prompt and its answer. */
  readonly positions: number;
  /** As the model's. */
  readonly vocabSize: number;
  /** What there is to do now, for reports. */
  readonly load: { running: number; waiting: number; keptTokens: number; mostTokens: number };
  /**
   * The tokens of an answer as they are made, those of the prompt before them with `echo`. Where one of `eosTokenIds`
   * ends it, it is the last. Leaving the loop, or `signal`, frees the request's place; the signal's reason is thrown.
   *
   * @throws {RangeError} for a request that no generator of this size can answer.
   */
  tokens(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken>;
}
