import { Tokenizer as HuggingFaceTokenizer } from "npm:@huggingface/tokenizers@^0.2.0";
import { type ApplyChatTemplate, chatRenderer } from "./chat_template.ts";
import { encoderOf } from "./encoder.ts";
import { UserError } from "./errors.ts";
import { isObject, shorten, show } from "./json.ts";
import { withUnicodeClasses } from "./pre_tokenizer.ts";
import { type TemplateDate, templateDate } from "./template_date.ts";
import { readTokenizerFiles, type TokenizerFiles } from "./tokenizer_files.ts";

export type { Message } from "./chat_template.ts";

/** What is known of a model's tokenizer without tokenising: nothing in it runs a regular expression of the model's files. */
export interface Vocabulary {
  decode(ids: Iterable<number>, options?: { skipSpecialTokens?: boolean }): string;
  /** The largest token id + 1. */
  vocabSize: number;
  /** Jinja text, or undefined where the model has none. */
  chatTemplate?: string;
  /** The date that the template is told, where it asks for it. */
  templateDate?: string;
  bosToken?: string;
  bosTokenId?: number;
  eosToken?: string;
  eosTokenId?: number;
  /** SHA-256 of the files that token ids follow from, in hexadecimal. */
  fingerprint: string;
}

/** A model's tokenizer and chat template. */
export interface Tokenizer extends Vocabulary {
  /** Token ids of `text`, as transformers' `tok(text, add_special_tokens=False)`. */
  encode(text: string): number[];
  applyChatTemplate: ApplyChatTemplate;
}

/**
 * Reads the tokenizer of a model folder: tokenizer.json, tokenizer_config.json (and transformers 4's
 * special_tokens_map.json) and chat_template.jinja, which wins over the configuration's `chat_template`.
 *
 * Regular expressions and templates of files that are not trusted need not end: see `TokenizerPool`, which stops them.
 *
 * @param options.chatTemplate Jinja text that wins over both.
 * @param options.date what a template is told that asks for the date; by default the time of this call.
 * @throws {UserError} for a file that is missing or not what it should be.
 */
export async function loadTokenizer(
  folder: string,
  options: { chatTemplate?: string; date?: Date } = {},
): Promise<Tokenizer> {
  const files = await readTokenizerFiles(folder, options.chatTemplate);
  const told = templateDate(files.template, options.date);
  const { json, tokens, template } = files;
  const library = construct(
    { added_tokens: [], ...json, pre_tokenizer: withUnicodeClasses(json.pre_tokenizer) },
    files,
  );
  const encode = usable(files.path, () => encoderOf(library));
  return {
    ...vocabularyOf(library, files, told),
    encode: (text) => {
      if (!text.isWellFormed()) {
        throw new UserError(`expected Unicode text, found half of a surrogate pair in ${show(text)}`);
      }
      return usable(files.path, () => encode(text));
    },
    applyChatTemplate: chatRenderer(template, Object.fromEntries(tokens), folder, { date: told?.date }),
  };
}

/** As `loadTokenizer`, without what tokenises and renders. */
export async function loadVocabulary(
  folder: string,
  options: { chatTemplate?: string; date?: Date } = {},
): Promise<Vocabulary> {
  const files = await readTokenizerFiles(folder, options.chatTemplate);
  const { json } = files;
  const model = isObject(json.model) && Array.isArray(json.model.merges)
    ? { ...json.model, merges: [] }
    : json.model;
  return vocabularyOf(
    construct({ added_tokens: [], ...json, model, normalizer: null, pre_tokenizer: null }, files),
    files,
    templateDate(files.template, options.date),
  );
}

function construct(json: Record<string, unknown>, { config, path }: TokenizerFiles): HuggingFaceTokenizer {
  if (JSON.stringify(json.decoder ?? null).includes('"Regex":')) {
    throw new UserError(`${path}: decoder: regular expressions are not supported there`);
  }
  return usable(path, () => new HuggingFaceTokenizer(json, config));
}

/** What the library throws is the file's fault: it takes any JSON, and some of it only fails when text comes. */
function usable<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(
      `${path}: not a tokenizer that can be used: ${shorten((error as Error).message, 300)}`,
    );
  }
}

function vocabularyOf(
  library: HuggingFaceTokenizer,
  files: TokenizerFiles,
  told: TemplateDate | undefined,
): Vocabulary {
  const { json, path, configPath, tokens, template, fingerprint } = files;
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
  return {
    decode: (ids, { skipSpecialTokens = false } = {}) => {
      const list = [...ids];
      if (list.length === 0) return "";
      return usable(path, () =>
        library.decode(list, {
          skip_special_tokens: skipSpecialTokens,
          // transformers 5 never does this for BPE: it would take away spaces that the model wrote.
          clean_up_tokenization_spaces: false,
        }));
    },
    vocabSize: vocabSizeOf(json),
    chatTemplate: template,
    templateDate: told?.text,
    bosToken: tokens.get("bos_token"),
    bosTokenId: idOf("bos_token"),
    eosToken: tokens.get("eos_token"),
    eosTokenId: idOf("eos_token"),
    fingerprint,
  };
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
