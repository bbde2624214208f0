import { join } from "node:path";
import { UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { readTextFile } from "../whole_file.ts";
import type { Sampling } from "./request.ts";
import { type GenerationConfig, SAMPLING_KEYS } from "./sampling.ts";

/** What the file may say of `Sampling`. */
const FIELDS = ["temperature", "topP", "topK", "minP", "repetitionPenalty"] as const;

/**
 * Reads generation_config.json of a model's folder; a key that is null or missing says nothing, and where the file names no end
 * token, config.json's counts.
 *
 * @throws {UserError} naming every value that cannot be one; where a file is there and cannot be read, or is no JSON object.
 */
export async function readGenerationConfig(folder: string): Promise<GenerationConfig> {
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
  const eosTokenIds = read("eos_token_id", "a token's number, or a list of them", tokenIds);
  if (problems.length > 0) throw new UserError(problems.join("\n"), 1, "MODEL_INVALID");
  return {
    doSample: doSample ?? false,
    sampling,
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
