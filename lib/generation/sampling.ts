/**
 * How tokens are drawn, as people say it: the names and bounds of `Sampling`, and what counts where nothing is said.
 */
import { integer, number, type ValueType } from "../config/values.ts";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { GREEDY, type Sampling } from "./request.ts";

/** What a number of `Sampling` is called in files and on the command line, which it may be, and what it does. */
export interface SamplingKey {
  readonly key: string;
  readonly type: ValueType<number>;
  readonly doc: string;
}

/** OpenAI's bounds. */
const penalty = number({ min: -2, max: 2 });

/** Of each field of `Sampling`. */
export const SAMPLING_KEYS: { readonly [K in keyof Sampling]: SamplingKey } = {
  temperature: {
    key: "temperature",
    type: number({ min: 0, max: 100 }),
    doc: "0 for the most likely token each time; what logits are divided by before one is drawn.",
  },
  topP: {
    key: "top_p",
    type: number({ min: 0, max: 1 }),
    doc: "Draw among the fewest likely tokens whose probabilities reach this much together.",
  },
  topK: {
    key: "top_k",
    type: integer({ min: 0 }),
    doc: "Draw among so many of the most likely tokens; 0 for all.",
  },
  minP: {
    key: "min_p",
    type: number({ min: 0, max: 1 }),
    doc: "Draw among tokens at least so likely relative to the most likely one.",
  },
  repetitionPenalty: {
    key: "repetition_penalty",
    type: number({ min: 0.01, max: 100 }),
    doc: "Above 1, tokens that prompt or answer have become less likely.",
  },
  presencePenalty: {
    key: "presence_penalty",
    type: penalty,
    doc: "Taken from the logits of tokens that the answer has.",
  },
  frequencyPenalty: {
    key: "frequency_penalty",
    type: penalty,
    doc: "Taken from the logits of tokens as often as the answer has them.",
  },
  seed: {
    key: "seed",
    type: integer({ min: 0 }),
    doc:
      "The same one gives the same answer, whatever is answered beside it; by default another one each time.",
  },
};

/** How a model's makers want it to answer: its generation_config.json. */
export interface GenerationConfig {
  /** Whether tokens are drawn, or the most likely one is taken each time. */
  doSample: boolean;
  /** What the file says of it. */
  sampling: Partial<Sampling>;
  /** Tokens that end an answer. */
  eosTokenIds: readonly number[];
  /** Most tokens of an answer, where the file says it. */
  maxNewTokens?: number;
}

/** transformers draws among so many where neither the model nor the caller says. */
const USUAL_TOP_K = 50;

/**
 * How the next token is drawn: as the caller says, or else as the model's generation_config.json does. What
 * transformers calls do_sample follows: a temperature of 0 takes the most likely token, and that is what a model
 * without do_sample is given.
 *
 * @throws {UserError} (status 2) naming every value that is none.
 */
export function samplingOf(
  given: Partial<Sampling>,
  { doSample, sampling: own }: GenerationConfig,
): Sampling {
  const problems: string[] = [];
  const sampling = { ...GREEDY, topK: USUAL_TOP_K, ...own, temperature: doSample ? own.temperature ?? 1 : 0 };
  for (const field of Object.keys(SAMPLING_KEYS) as (keyof Sampling)[]) {
    const value: unknown = given[field];
    if (value === undefined) continue;
    const { type } = SAMPLING_KEYS[field];
    const read = typeof value === "number" ? type.read(value) : undefined;
    if (read === undefined) problems.push(`${field}: expected ${type.expected}, found ${show(value)}`);
    else sampling[field] = read;
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  return { ...sampling, seed: given.seed ?? randomSeed() };
}

/**
 * Keys that were given and change nothing: of a model that takes the most likely token each time, those that say how
 * one is drawn.
 */
export function unusedKeys(
  given: Partial<Sampling>,
  { doSample }: Pick<GenerationConfig, "doSample">,
): string[] {
  if (given.temperature === undefined ? doSample : given.temperature > 0) return [];
  const drawing = ["topP", "topK", "minP"] as const;
  return drawing.filter((field) => given[field] !== undefined).map((field) => SAMPLING_KEYS[field].key);
}

/** Any number that a seed may be. */
export function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high & 0x1fffff) * 2 ** 32 + low;
}
