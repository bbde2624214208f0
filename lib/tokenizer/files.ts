import { createHash } from "node:crypto";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { isDeep, isObject, MOST_LEVELS, show } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import { type TokenizerClass, tokenizerClass } from "./classes.ts";

/** What the tokenizer files of a model folder say, read and not yet used. */
export interface TokenizerFiles {
  folder: string;
  /** tokenizer.json, and where it is. */
  json: Record<string, unknown>;
  path: string;
  /** tokenizer_config.json, and where it is. */
  config: Record<string, unknown>;
  configPath: string;
  /** special_tokens_map.json and added_tokens.json, which transformers 4 wrote. */
  specialTokensMap?: Record<string, unknown>;
  addedTokensFile?: Record<string, unknown>;
  /** What the class of the tokenizer makes of them. */
  tokenizerClass: TokenizerClass;
  /** Jinja text, and that for conversations with tools, where the model has another for them. */
  template?: string;
  toolTemplate?: string;
  /** SHA-256 of the files that token ids follow from, in hexadecimal. */
  fingerprint: string;
}

/**
 * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja of
 * a model folder, and of its config.json what the class of the tokenizer depends on.
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
  const model = await readJson(join(folder, "config.json")) ?? {};
  checkRegexPatch(config, model, configPath);
  const found = tokenizerClass(config, model, configPath);
  const read = async (name: string) => await readText(join(folder, name));
  const [file, toolFile] = [await read("chat_template.jinja"), await read(TOOL_TEMPLATE)];
  // Files win over the configuration, all of them over all that it has.
  const named = file === undefined && toolFile === undefined
    ? templatesOf(config.chat_template, configPath)
    : { template: file, toolTemplate: toolFile };
  return {
    folder,
    json,
    path,
    config,
    configPath,
    specialTokensMap: await readJson(join(folder, "special_tokens_map.json")),
    addedTokensFile: await readJson(join(folder, "added_tokens.json")),
    tokenizerClass: found,
    ...chatTemplate === undefined ? named : { template: chatTemplate },
    fingerprint: await fingerprintOf(folder, found.name),
  };
}

/** transformers puts another expression in where a configuration asks for it and the model is not of its version 5. */
function checkRegexPatch(
  config: Record<string, unknown>,
  { transformers_version }: Record<string, unknown>,
  configPath: string,
): void {
  if (config.fix_mistral_regex !== true || /^([5-9]|\d\d)/.test(String(transformers_version))) return;
  throw new UserError(
    `${configPath}: fix_mistral_regex: true is not supported for models of transformers before 5; save the ` +
      "tokenizer with transformers 5",
  );
}

/** Where transformers keeps the template for tools, if there is one besides the usual. */
const TOOL_TEMPLATE = "additional_chat_templates/tool_use.jinja";

/**
 * `chat_template` is Jinja text, or a list of named templates: "tool_use" is meant where a row has tools, else
 * "default".
 */
function templatesOf(value: unknown, path: string): Pick<TokenizerFiles, "template" | "toolTemplate"> {
  if (value === undefined || value === null) return {};
  if (typeof value === "string") return { template: value };
  const named = Array.isArray(value) ? value.filter(isObject) : [];
  const [found, tool] = ["default", "tool_use"].map((wanted) =>
    // As in a Python dictionary, the last of a name.
    named.findLast(({ name }) => name === wanted)?.template
  );
  if (typeof found === "string" && (tool === undefined || typeof tool === "string")) {
    return { template: found, toolTemplate: tool };
  }
  throw new UserError(
    `${path}: chat_template: expected Jinja text or a list with a template named "default", found ${
      named.length > 0 ? `the names ${named.map(({ name }) => show(name)).join(", ")}` : show(value)
    }`,
  );
}

/** The files that ids follow from, besides the class. */
const FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  TOOL_TEMPLATE,
];

async function fingerprintOf(folder: string, className: string): Promise<string> {
  const hash = createHash("sha256").update(`${className}\0`);
  for (const name of FILES) {
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
