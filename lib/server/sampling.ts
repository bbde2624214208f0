import { integer, number } from "../config/values.ts";
import { GREEDY, type Sampling } from "../generation/request.ts";
import type { RequestFields } from "./fields.ts";

/** What OpenAI's server does where nobody says anything. */
const USUAL: Omit<Sampling, "seed"> = { ...GREEDY, temperature: 1 };
/** Seeds are whole numbers below it. */
const SEEDS = 2 ** 53;

/** OpenAI's fields, and those that other servers have beside them. */
const FIELDS = {
  temperature: ["temperature", number({ min: 0 })],
  topP: ["top_p", number({ min: 0, max: 1 })],
  topK: ["top_k", integer({ min: -1 })],
  minP: ["min_p", number({ min: 0, max: 1 })],
  repetitionPenalty: ["repetition_penalty", number({ min: 0.01, max: 100 })],
  presencePenalty: ["presence_penalty", number({ min: -2, max: 2 })],
  frequencyPenalty: ["frequency_penalty", number({ min: -2, max: 2 })],
} as const;

/**
 * How a request's answers are drawn, one for each of its `n` choices. What it does not say, the model's generation_config.json says,
 * and where that does not, OpenAI's server.
 *
 * @throws {ApiError} for a field that holds something else.
 */
export function samplingOf(fields: RequestFields, defaults: Partial<Sampling>, n: number): Sampling[] {
  const sampling = { ...USUAL, ...defaults };
  for (const [key, [name, type]] of Object.entries(FIELDS)) {
    const value = fields.get(name, type);
    if (value !== undefined) sampling[key as keyof typeof FIELDS] = value;
  }
  // Other servers' word for all.
  if (sampling.topK === -1) sampling.topK = 0;
  // The fewest tokens that reach nothing are the likeliest alone.
  if (sampling.topP === 0) Object.assign(sampling, { topP: 1, temperature: 0 });
  const seed = fields.get("seed", integer()) ?? Math.floor(Math.random() * SEEDS);
  // Choices of one request are to be others.
  return Array.from({ length: n }, (_, i) => {
    const own = (seed + i) % SEEDS;
    return { ...sampling, seed: own < 0 ? own + SEEDS : own };
  });
}
