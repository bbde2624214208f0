import { join } from "node:path";
import { positive } from "../config/counts.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import type { Sampling } from "./request.ts";
import { type GenerationConfig, SAMPLING_KEYS } from "./sampling.ts";

/** What the file may say of `Sampling`. */
const FIELDS = ["temperature", "topP", "topK", "minP", "repetitionPenalty"] as const;

/** Other keys that transformers makes answers by, with what they say where they change nothing. */
const NOT_FOLLOWED: Readonly<Record<string, unknown>> = {
  num_beams: 1,
  num_beam_groups: 1,
  penalty_alpha: 0,
  dola_layers: null,
  min_length: 0,
  min_new_tokens: 0,
  stop_strings: null,
  max_time: null,
  top_h: null,
  typical_p: 1,
  epsilon_cutoff: 0,
  eta_cutoff: 0,
  no_repeat_ngram_size: 0,
  bad_words_ids: null,
  forced_bos_token_id: null,
  forced_eos_token_id: null,
  exponential_decay_length_penalty: null,
  suppress_tokens: null,
  begin_suppress_tokens: null,
  sequence_bias: null,
  guidance_scale: 1,
  watermarking_config: null,
  constraints: null,
  force_words_ids: null,
  encoder_repetition_penalty: 1,
  encoder_no_repeat_ngram_size: 0,
  token_healing: false,
  num_return_sequences: 1,
};

/**
 * Reads generation_config.json of a model's folder; a key that is null or missing says nothing, and where the file
 * names no end token, config.json's counts.
 *
 * @param warn hears of keys that transformers would follow and that are not followed here.
 * @throws {UserError} naming every value that cannot be one; where a file is there and cannot be read, or is no JSON
 * object.
 */
export async function readGenerationConfig(
  folder: string,
  warn?: (message: string) => void,
): Promise<GenerationConfig> {
  const path = join(folder, "generation_config.json");
  const json = await readObject(path) ?? {};
  const problems: string[] = [];
  const read = <T>(key: string, expected: string, read: (value: unknown) => T | undefined): T | undefined => {
    const value = json[key];
    if (value === undefined || value === null) return;
    const found = read(value);
    if (found === undefined) problems.push(`${path}: ${key}: expected ${expected}, found ${show(value)}`);
    return found;
  };
  const doSample = read(
    "do_sample",
    "true or false",
    (value) => typeof value === "boolean" ? value : undefined,
  );
  const sampling: Partial<Sampling> = {};
  for (const field of FIELDS) {
    const { key, type } = SAMPLING_KEYS[field];
    const value = read(
      key,
      type.expected,
      (value) => typeof value === "number" ? type.read(value) : undefined,
    );
    if (value !== undefined) sampling[field] = value;
  }
  const maxNewTokens = read(
    "max_new_tokens",
    positive.expected,
    (value) => typeof value === "number" ? positive.read(value) : undefined,
  );
  const eosTokenIds = read("eos_token_id", "a token's number, or a list of them", tokenIds);
  if (problems.length > 0) throw new UserError(problems.join("\n"), 1, "MODEL_INVALID");
  const others = Object.entries(NOT_FOLLOWED).filter(([key, neutral]) => {
    const value = json[key] ?? null;
    return value !== null && value !== neutral && !(Array.isArray(value) && value.length === 0);
  });
  if (others.length > 0) {
    const list = others.map(([key]) => `${key}: ${show(json[key])}`).join(", ");
    warn?.(`${path}: not followed here, unlike in transformers: ${list}`);
  }
  return {
    doSample: doSample ?? false,
    sampling,
    ...maxNewTokens !== undefined && { maxNewTokens },
    eosTokenIds: eosTokenIds ?? tokenIds((await readObject(join(folder, "config.json")))?.eos_token_id) ?? [],
  };
}

function tokenIds(value: unknown): number[] | undefined {
  const ids = [value].flat();
  return ids.every((id): id is number => Number.isInteger(id) && (id as number) >= 0) ? ids : undefined;
}

/** An object of JSON; undefined where there is no such file. */
async function readObject(path: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readTextFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`, 1, "MODEL_INVALID");
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`, 1, "MODEL_INVALID");
  }
  if (isObject(json)) return json;
  throw new UserError(`${path}: expected an object of JSON, found ${show(json)}`, 1, "MODEL_INVALID");
}
