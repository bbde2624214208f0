import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import type { AddedToken } from "./added_tokens.ts";
import type { TokenizerClass } from "./classes.ts";

type Json = Record<string, unknown>;

/** The tokens that transformers knows by name, in its order. */
const NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** What the files of a folder say about added and special tokens. */
export interface TokenFiles {
  /** tokenizer.json, and where it is. */
  json: Json;
  path: string;
  /** tokenizer_config.json, and where it is. */
  config: Json;
  configPath: string;
  /** special_tokens_map.json and added_tokens.json of transformers 4, where they are. */
  specialTokensMap?: Json;
  addedTokensFile?: Json;
}

export interface SpecialTokens {
  /** Texts by name, such as `eos_token`. */
  named: Map<string, string>;
  /** Tokens that transformers adds to those of tokenizer.json, or whose flags it changes, in two steps. */
  added: AddedToken[];
  addedAgain: AddedToken[];
  /** Special tokens are not looked for in text. */
  split: boolean;
}

/**
 * The special tokens of a folder, as transformers 5.17 reads its files: tokenizer_config.json wins over
 * tokenizer.json, which wins over the files of transformers 4, and whatever is no token yet becomes one.
 *
 * @param known tokens that tokenizer.json adds.
 */
export function readSpecialTokens(
  files: TokenFiles,
  { tokens = {}, addsSpecialTokens = false, padsAsStored = true }: TokenizerClass,
  known: Set<string>,
): SpecialTokens {
  const { config, configPath } = files;
  const keys = { ...config };
  renameAdditional(keys);
  const own: Json = {};
  for (const [key, value] of Object.entries(keys)) {
    if (!key.endsWith("_token") || NAMES.includes(key) || typeof value !== "string") continue;
    own[key] = value;
    delete keys[key];
  }
  takeNamed(keys, own);
  if (Object.keys(own).length > 0) keys.model_specific_special_tokens = own;

  const decoder = "added_tokens_decoder" in config
    ? decoderOf(config.added_tokens_decoder, configPath)
    : legacyDecoder(files, keys);
  const ordered = [...decoder].sort(([a], [b]) => a - b).map(([, token]) => token);
  const byText = new Map([...decoder.values()].map((token) => [token.content, token]));

  const named = new Map<string, AddedToken | string>();
  for (const name of NAMES) {
    const value = name in keys ? tokenOf(keys[name], `${configPath}: ${name}`) : tokens[name];
    if (value !== undefined) named.set(name, byText.get(textOf(value)) ?? value);
  }
  // A padding that is stored names its token.
  if (padsAsStored && isObject(files.json.padding) && !("pad_token" in keys)) {
    named.set("pad_token", String(files.json.padding.pad_token));
  }
  for (const [key, value] of Object.entries(keys)) {
    if (
      key.endsWith("_token") && !NAMES.includes(key) && (typeof value === "string" || isAddedToken(value))
    ) {
      named.set(key, tokenOf(value, `${configPath}: ${key}`)!);
    }
  }
  const specific = keys.model_specific_special_tokens;
  if (specific !== undefined && specific !== null) {
    if (!isObject(specific)) {
      throw new UserError(
        `${configPath}: model_specific_special_tokens: expected an object, found ${show(specific)}`,
      );
    }
    for (const [key, value] of Object.entries(specific)) {
      const token = tokenOf(value, `${configPath}: ${key}`);
      if (token === undefined) throw new UserError(`${configPath}: ${key}: expected a token, found null`);
      named.set(key, token);
    }
  }
  const extra = "extra_special_tokens" in keys ? keys.extra_special_tokens : keys.additional_special_tokens;
  const more = extraTokens(extra, configPath);

  const present = new Set([...known, ...byText.keys()]);
  for (const token of [...named.values(), ...more]) {
    if (present.has(textOf(token))) continue;
    present.add(textOf(token));
    ordered.push(typeof token === "string" ? special(token) : token);
  }
  const names = new Set([...named.values()].map(textOf));
  const all = [...named.values(), ...more].map(textOf);
  return {
    named: new Map([...named].map(([name, token]) => [name, textOf(token)])),
    added: ordered.map((token) => names.has(token.content) ? { ...token, special: true } : token),
    addedAgain: addsSpecialTokens ? [...new Set(all)].map(special) : [],
    split: config.split_special_tokens === true,
  };
}

const textOf = (token: AddedToken | string) => typeof token === "string" ? token : token.content;

/** transformers 4's name for a key. */
function renameAdditional(keys: Json): void {
  if (!("additional_special_tokens" in keys)) return;
  if (!("extra_special_tokens" in keys)) keys.extra_special_tokens = keys.additional_special_tokens;
  delete keys.additional_special_tokens;
}

/** Extra tokens with names of their own. */
function takeNamed(keys: Json, own: Json): void {
  if (!isObject(keys.extra_special_tokens)) return;
  Object.assign(own, keys.extra_special_tokens);
  delete keys.extra_special_tokens;
}

function extraTokens(value: unknown, path: string): (AddedToken | string)[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) {
    throw new UserError(`${path}: extra_special_tokens: expected a list or an object, found ${show(value)}`);
  }
  return value.map((item, i) => {
    const token = isAddedToken(item) || typeof item === "string"
      ? tokenOf(item, `${path}: extra_special_tokens[${i}]`)
      : undefined;
    if (token === undefined) {
      throw new UserError(`${path}: extra_special_tokens[${i}]: expected a token, found ${show(item)}`);
    }
    return token;
  });
}

function decoderOf(value: unknown, path: string): Map<number, AddedToken> {
  const where = `${path}: added_tokens_decoder`;
  if (!isObject(value)) throw new UserError(`${where}: expected an object, found ${show(value)}`);
  return new Map(
    Object.entries(value).map(([id, token]) => {
      if (!/^\d+$/.test(id) || !isObject(token)) {
        throw new UserError(`${where}: expected ids and their tokens, found ${show(id)}: ${show(token)}`);
      }
      return [Number(id), addedToken(token, `${where}.${id}`)];
    }),
  );
}

/** Without `added_tokens_decoder`, transformers reads what version 4 wrote beside the configuration. */
function legacyDecoder(files: TokenFiles, keys: Json): Map<number, AddedToken> {
  const { specialTokensMap = {}, addedTokensFile = {}, json, path, configPath } = files;
  for (const [key, value] of Object.entries(specialTokensMap)) {
    if (key !== "extra_special_tokens") {
      keys[key] = isObject(value) ? { __type: "AddedToken", ...value, special: true } : value;
    } else if (Array.isArray(value)) {
      const merged = [...(Array.isArray(keys[key]) ? keys[key] : [])];
      for (const item of value) {
        const token = isObject(item) ? { __type: "AddedToken", ...item, special: true } : item;
        if (!merged.some((other) => JSON.stringify(other) === JSON.stringify(token))) merged.push(token);
      }
      keys[key] = merged;
    } else keys[key] = value;
  }
  if (isObject(keys.extra_special_tokens)) {
    const specific = isObject(keys.model_specific_special_tokens) ? keys.model_specific_special_tokens : {};
    keys.model_specific_special_tokens = { ...specific, ...keys.extra_special_tokens };
    delete keys.extra_special_tokens;
  }
  const decoder = new Map<number, AddedToken>();
  const specials = new Set(
    [
      ...NAMES.map((name) => keys[name]),
      ...(Array.isArray(keys.extra_special_tokens) ? keys.extra_special_tokens : []),
    ]
      .map((token) => isObject(token) ? token.content : token),
  );
  for (const [content, id] of Object.entries(addedTokensFile)) {
    if (typeof id !== "number") {
      throw new UserError(`${configPath}: added_tokens.json beside it: expected ids, found ${show(id)}`);
    }
    const isSpecial = specials.has(content);
    decoder.set(id, { ...special(content), normalized: !isSpecial, special: isSpecial });
  }
  for (const [i, token] of (Array.isArray(json.added_tokens) ? json.added_tokens : []).entries()) {
    const { id, ...flags } = isObject(token) ? token : {};
    if (typeof id !== "number") {
      throw new UserError(`${path}: added_tokens[${i}]: expected a token with an id, found ${show(token)}`);
    }
    decoder.set(id, addedToken(flags, `${path}: added_tokens[${i}]`));
  }
  return decoder;
}

const special = (content: string): AddedToken => ({
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

const isAddedToken = (value: unknown): boolean => isObject(value) && value.__type === "AddedToken";

/** A token as text or as an object; null and absent mean that there is none. */
function tokenOf(value: unknown, where: string): AddedToken | string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return value;
  if (isObject(value)) return addedToken(value, where);
  throw new UserError(`${where}: expected text or an object with "content", found ${show(value)}`);
}

/** An added token with the flags that it names. */
export function addedToken(value: Json, where: string): AddedToken {
  const { content } = value;
  if (typeof content !== "string") {
    throw new UserError(`${where}: expected text or an object with "content", found ${show(content)}`);
  }
  const flag = (name: string, otherwise: boolean): boolean => {
    const found = value[name] ?? otherwise;
    if (typeof found !== "boolean") {
      throw new UserError(`${where}.${name}: expected true or false, found ${show(found)}`);
    }
    return found;
  };
  const isSpecial = flag("special", false);
  return {
    content,
    single_word: flag("single_word", false),
    lstrip: flag("lstrip", false),
    rstrip: flag("rstrip", false),
    normalized: flag("normalized", !isSpecial),
    special: isSpecial,
  };
}
