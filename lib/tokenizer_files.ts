import { createHash } from "node:crypto";
import { join } from "node:path";
import { UserError } from "./errors.ts";
import { isDeep, isObject, MOST_LEVELS, show } from "./json.ts";
import { readTextFile } from "./text_file.ts";

/** What the tokenizer files of a model folder say, read and not yet used. */
export interface TokenizerFiles {
  folder: string;
  /** tokenizer.json, and where it is. */
  json: Record<string, unknown>;
  path: string;
  /** tokenizer_config.json, and where it is. */
  config: Record<string, unknown>;
  configPath: string;
  /** Texts of the special tokens by name, such as `eos_token`. */
  tokens: Map<string, string>;
  /** Jinja text. */
  template?: string;
  /** SHA-256 of the files that token ids follow from, in hexadecimal. */
  fingerprint: string;
}

/** The special tokens that transformers hands to a chat template by name. */
const SPECIAL_TOKENS = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
];

/**
 * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja of a model folder.
 *
 * @param chatTemplate Jinja text that wins over the folder's.
 * @throws {UserError} for a file that is missing or not what it should be.
 */
export async function readTokenizerFiles(folder: string, chatTemplate?: string): Promise<TokenizerFiles> {
  const path = join(folder, "tokenizer.json");
  const json = await readJson(path);
  if (!json) {
    throw new UserError(
      `${path}: expected the model's tokenizer, found no such file. Save it with transformers' ` +
        "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
    );
  }
  const configPath = join(folder, "tokenizer_config.json");
  const config = await readJson(configPath);
  if (!config) {
    throw new UserError(
      `${configPath}: expected the tokenizer's configuration (its bos_token and eos_token), found no such file`,
    );
  }
  return {
    folder,
    json,
    path,
    config,
    configPath,
    tokens: specialTokens(
      // transformers 4 keeps tokens in both places; the map counts where the configuration is of the older kind.
      "added_tokens_decoder" in config
        ? config
        : { ...config, ...await readJson(join(folder, "special_tokens_map.json")) },
      configPath,
    ),
    template: chatTemplate ??
      await readText(join(folder, "chat_template.jinja")) ??
      templateOf(config.chat_template, configPath),
    fingerprint: await fingerprintOf(folder),
  };
}

/** A special token is written as text or as an object with its `content`; null and absent mean that there is none. */
function specialTokens(config: Record<string, unknown>, path: string): Map<string, string> {
  const tokens = new Map<string, string>();
  for (const name of SPECIAL_TOKENS) {
    const value = config[name];
    const token = isObject(value) ? value.content : value;
    if (token === undefined || token === null) continue;
    if (typeof token !== "string") {
      throw new UserError(
        `${path}: ${name}: expected text or an object with "content", found ${show(value)}`,
      );
    }
    tokens.set(name, token);
  }
  return tokens;
}

/** `chat_template` is Jinja text, or a list of named templates of which "default" is meant. */
function templateOf(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
  const named = Array.isArray(value) ? value.filter(isObject) : [];
  const found = named.find(({ name }) => name === "default")?.template;
  if (typeof found === "string") return found;
  throw new UserError(
    `${path}: chat_template: expected Jinja text or a list with a template named "default", found ${
      named.length > 0 ? `the names ${named.map(({ name }) => show(name)).join(", ")}` : show(value)
    }`,
  );
}

async function fingerprintOf(folder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]) {
    hash.update(`${name}\0${await readText(join(folder, name)) ?? ""}\0`);
  }
  return hash.digest("hex");
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readTextFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`);
  }
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  if (isDeep(text)) {
    throw new UserError(`${path}: expected JSON of at most ${MOST_LEVELS} levels, found more`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  if (!isObject(json)) throw new UserError(`${path}: expected a JSON object, found ${show(json)}`);
  return json;
}
