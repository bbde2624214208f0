import { integer } from "../config/values.ts";
import { GREEDY, type Sampling } from "../generation/request.ts";
import { randomSeed, SAMPLING_KEYS } from "../generation/sampling.ts";
import type { RequestFields } from "./fields.ts";

/** What OpenAI's server does where nobody says anything. */
const USUAL: Omit<Sampling, "seed"> = { ...GREEDY, temperature: 1 };
/** Seeds are whole numbers below it. */
const SEEDS = 2 ** 53;
/** OpenAI's fields, and those that other servers have beside them. */
const FIELDS = {
  ...SAMPLING_KEYS,
  // Other servers' word for all of them is -1.
  topK: { ...SAMPLING_KEYS.topK, type: integer({ min: -1 }) },
  seed: { ...SAMPLING_KEYS.seed, type: integer() },
};

/**
 * How a request's answers are drawn, one for each of its `n` choices. What it does not say, the model's
 * generation_config.json says, and where that does not, OpenAI's server.
 *
 * @throws {ApiError} for a field that holds something else.
 */
export function samplingOf(fields: RequestFields, defaults: Partial<Sampling>, n: number): Sampling[] {
  const sampling: Sampling = { ...USUAL, ...defaults, seed: randomSeed() };
  for (const [field, { key, type }] of Object.entries(FIELDS) as [keyof Sampling, typeof FIELDS["seed"]][]) {
    sampling[field] = fields.get(key, type) ?? sampling[field];
  }
  if (sampling.topK === -1) sampling.topK = 0;
  // The fewest tokens that reach nothing are the likeliest alone.
  if (sampling.topP === 0) Object.assign(sampling, { topP: 1, temperature: 0 });
  // Choices of one request are to be others.
  return Array.from({ length: n }, (_, i) => {
    const first = sampling.seed < 0 ? sampling.seed + SEEDS : sampling.seed;
    // Their sum would be rounded.
    return { ...sampling, seed: first < SEEDS - i ? first + i : i - (SEEDS - first) };
  });
}
