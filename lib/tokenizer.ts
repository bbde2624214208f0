import { Template } from "npm:@huggingface/jinja@^0.5.11";
import { Tokenizer as HuggingFaceTokenizer } from "npm:@huggingface/tokenizers@^0.2.0";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { encoderOf } from "./encoder.ts";
import { UserError } from "./errors.ts";
import { isObject, show } from "./json.ts";
import { withUnicodeClasses } from "./pre_tokenizer.ts";

/** One turn of a conversation; a chat template may read more keys. */
export interface Message {
  role: string;
  content: string;
}

/** A model's tokenizer and chat template. */
export interface Tokenizer {
  /** Token ids of `text`, as transformers' `tok(text, add_special_tokens=False)`. */
  encode(text: string): number[];
  decode(ids: Iterable<number>, options?: { skipSpecialTokens?: boolean }): string;
  /** The largest token id + 1. */
  vocabSize: number;
  /** Jinja text, or undefined where the model has none. */
  chatTemplate?: string;
  bosToken?: string;
  bosTokenId?: number;
  eosToken?: string;
  eosTokenId?: number;
  /** SHA-256 of the files that token ids follow from, in hexadecimal. */
  fingerprint: string;
  /**
   * Text of a conversation, as transformers' `apply_chat_template(messages, tokenize=False)`. One difference: where a
   * template trims a message, U+FEFF at its ends goes, and U+001C to U+001F and U+0085 stay, as in JavaScript.
   * @throws {UserError} without a chat template, and with the template's own words where it refuses the messages.
   */
  applyChatTemplate(messages: readonly Message[], options?: { addGenerationPrompt?: boolean }): string;
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
 * Reads the tokenizer of a model folder: tokenizer.json, tokenizer_config.json (and transformers 4's
 * special_tokens_map.json) and chat_template.jinja, which wins over the configuration's `chat_template`.
 *
 * @param options.chatTemplate Jinja text that wins over both.
 * @throws {UserError} for a file that is missing or not what it should be.
 */
export async function loadTokenizer(
  folder: string,
  options: { chatTemplate?: string } = {},
): Promise<Tokenizer> {
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
  const library = construct(json, config, path);
  const tokens = specialTokens(
    // transformers 4 keeps tokens in both places; the map counts where the configuration is of the older kind.
    "added_tokens_decoder" in config
      ? config
      : { ...config, ...await readJson(join(folder, "special_tokens_map.json")) },
    configPath,
  );
  const template = options.chatTemplate ??
    await readText(join(folder, "chat_template.jinja")) ??
    templateOf(config.chat_template, configPath);

  const idOf = (name: string) => {
    const token = tokens.get(name);
    if (token === undefined) return undefined;
    const id = library.token_to_id(token);
    if (id === undefined) {
      throw new UserError(
        `${configPath}: ${name} is ${
          show(token)
        }, which is not a token of ${path}: the two do not belong together`,
      );
    }
    return id;
  };
  const encode = encoderOf(library);
  return {
    encode: (text) => {
      if (!text.isWellFormed()) {
        throw new UserError(`expected Unicode text, found half of a surrogate pair in ${show(text)}`);
      }
      return encode(text);
    },
    decode: (ids, { skipSpecialTokens = false } = {}) => {
      const list = [...ids];
      if (list.length === 0) return "";
      return library.decode(list, {
        skip_special_tokens: skipSpecialTokens,
        // transformers 5 never does this for BPE: it would take away spaces that the model wrote.
        clean_up_tokenization_spaces: false,
      });
    },
    vocabSize: vocabSizeOf(json),
    chatTemplate: template,
    bosToken: tokens.get("bos_token"),
    bosTokenId: idOf("bos_token"),
    eosToken: tokens.get("eos_token"),
    eosTokenId: idOf("eos_token"),
    fingerprint: await fingerprintOf(folder),
    applyChatTemplate: chatRenderer(template, Object.fromEntries(tokens), folder),
  };
}

function chatRenderer(
  template: string | undefined,
  tokens: Record<string, string>,
  folder: string,
): Tokenizer["applyChatTemplate"] {
  let compiled: Template | undefined;
  return (messages, { addGenerationPrompt = false } = {}) => {
    if (template === undefined) {
      throw new UserError(
        `${folder}: this model has no chat template, and the data are message lists: expected chat_template.jinja, ` +
          "or chat_template in tokenizer_config.json, or chat_template in the run file",
      );
    }
    if (messages.length === 0) {
      throw new UserError("expected at least one message before the response, found none");
    }
    try {
      compiled ??= new Template(template);
    } catch (error) {
      throw new UserError(`the chat template is not valid Jinja: ${(error as Error).message}`);
    }
    const render = (count: number) =>
      compiled!.render({
        ...tokens,
        messages: messages.slice(0, count),
        tools: null,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
      });
    try {
      return render(messages.length);
    } catch (error) {
      const refused = messages.findIndex((_, i) => !succeeds(() => render(i + 1)));
      throw new UserError(
        `the chat template refuses the messages with roles ${messages.map(({ role }) => role).join(", ")}, ` +
          `first at message ${refused + 1} (${messages[refused].role}): ${(error as Error).message}`,
      );
    }
  };
}

function succeeds(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

function construct(
  json: Record<string, unknown>,
  config: Record<string, unknown>,
  path: string,
): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(
      { added_tokens: [], ...json, pre_tokenizer: withUnicodeClasses(json.pre_tokenizer) },
      config,
    );
  } catch (error) {
    throw new UserError(`${path}: not a tokenizer that can be used: ${(error as Error).message}`);
  }
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

function vocabSizeOf(json: Record<string, unknown>): number {
  const vocab = isObject(json.model) ? json.model.vocab : undefined;
  let size = 0;
  // A Unigram model lists [piece, score]; the others map each piece to its id.
  if (Array.isArray(vocab)) size = vocab.length;
  else if (isObject(vocab)) { for (const id of Object.values(vocab)) size = Math.max(size, Number(id) + 1); }
  const added = Array.isArray(json.added_tokens) ? json.added_tokens : [];
  for (const token of added) if (isObject(token)) size = Math.max(size, Number(token.id) + 1);
  return size;
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
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`);
  }
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  if (!isObject(json)) throw new UserError(`${path}: expected a JSON object, found ${show(json)}`);
  return json;
}
