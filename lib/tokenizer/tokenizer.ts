import { type ApplyChatTemplate, chatRenderer } from "./chat_template.ts";
import { encoderOf } from "./encoder.ts";
import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";
import { templateDate } from "./template_date.ts";
import { readTokenizerFiles, type TokenizerFiles } from "./files.ts";
import { type AddedToken, AddedTokens } from "./added_tokens.ts";
import { cleanUp, readDecoder } from "./decoders.ts";
import { Fields } from "./fields.ts";
import { modelType, readModel } from "./models.ts";
import { type Normalizer, readNormalizer } from "./normalizers.ts";
import { readPreTokenizer } from "./pre_tokenizers.ts";
import { PatternError } from "./oniguruma.ts";
import { type Frame, frameOf } from "./post_processor.ts";
import { addedToken, readSpecialTokens } from "./special_tokens.ts";
import { readTokens, type Tokens } from "./vocab.ts";

/**
 * What is known of a model's tokenizer without tokenizing: nothing in it runs a regular expression of the model's
 * files.
 */
export interface Vocabulary {
  /** The text of token ids. */
  decode(ids: Iterable<number>, options?: { skipSpecialTokens?: boolean }): string;
  /** The token of an id, as the vocabulary writes it. */
  tokenOf(id: number): string | undefined;
  /** The largest token id + 1. */
  vocabSize: number;
  /** Jinja text, or undefined where the model has none. */
  chatTemplate?: string;
  /** The date that the template is told, where it asks for it. */
  templateDate?: string;
  /** The token that a sequence begins with. */
  bosToken?: string;
  /** Its id. */
  bosTokenId?: number;
  /** The token that a sequence ends with. */
  eosToken?: string;
  /** Its id. */
  eosTokenId?: number;
  /** SHA-256 of the files that token ids follow from, in hexadecimal. */
  fingerprint: string;
}

/** A model's tokenizer and chat template. */
export interface Tokenizer extends Vocabulary {
  /** Token ids of `text`, as transformers' `tok(text, add_special_tokens=False)`; or `True` where that is asked for. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** Text of a conversation. */
  applyChatTemplate: ApplyChatTemplate;
}

/**
 * Reads the tokenizer of a model folder: tokenizer.json, tokenizer_config.json (and transformers 4's
 * special_tokens_map.json and added_tokens.json) and chat_template.jinja, which wins over the configuration's
 * `chat_template`.
 *
 * It gives what transformers 5.17 with tokenizers 0.23 gives for the folder: where a part of it cannot be had
 * exactly, the file is refused by the name of that part.
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
  const { template, toolTemplate } = files;
  const told = toldBy(files, options.date);
  return usable(files.path, () => {
    const { model: fields, part } = componentsOf(files);
    const normalizer = part("normalizer", readNormalizer);
    const model = readModel(fields);
    const vocabulary = vocabularyOf(files, model, normalizer);
    const renderer = (template?: string) =>
      chatRenderer(template, Object.fromEntries(vocabulary.named), folder, { date: told?.date });
    const usual = renderer(template);
    const withTools = toolTemplate === undefined ? undefined : renderer(toolTemplate);
    const encode = encoderOf({
      added: vocabulary.added,
      normalizer,
      preTokenizer: part("pre_tokenizer", readPreTokenizer),
      model,
    });
    return {
      ...vocabulary.known,
      templateDate: told?.text,
      encode: (text, { addSpecialTokens = false } = {}) => {
        if (!text.isWellFormed()) {
          throw new UserError(`expected Unicode text, found half of a surrogate pair in ${show(text)}`);
        }
        const ids = usable(files.path, () => encode(text));
        if (!addSpecialTokens) return ids;
        // Read when it is asked for: training asks for none, so a folder whose frame is not known trains all the same.
        const { before, after } = frameOf(files);
        return [...before, ...ids, ...after];
      },
      applyChatTemplate: (messages, options) =>
        (options?.tools ?? undefined) === undefined || !withTools
          ? usual(messages, options)
          : withTools(messages, options),
    };
  });
}

/** As `loadTokenizer`, without what tokenizes and renders. */
export async function loadVocabulary(
  folder: string,
  options: { chatTemplate?: string; date?: Date } = {},
): Promise<Vocabulary> {
  const files = await readTokenizerFiles(folder, options.chatTemplate);
  return usable(files.path, () => {
    const { json, model, part } = componentsOf(files);
    const withExpressions = JSON.stringify(json.normalizer ?? null).includes('"Regex":');
    const normalizer = withExpressions ? "unknown" : part("normalizer", readNormalizer);
    return {
      ...vocabularyOf(files, readTokens(model), normalizer).known,
      templateDate: toldBy(files, options.date)?.text,
    };
  });
}

/** What a tokenizer is made of, for those who write it in another form. */
export interface TokenTable {
  /** Where tokenizer.json is, for messages. */
  path: string;
  /** Its components, as the class of the tokenizer has them. */
  json: Record<string, unknown>;
  /** Every token by its id: as the file has it, and what is said of one that was added. */
  tokens: ReadonlyMap<number, { text: string; added?: AddedToken }>;
  /** The id of a token with a name, such as `bos_token`. */
  idOf(name: string): number | undefined;
  /** What stands around a text. */
  frame: Frame;
  /** Jinja text, and that for conversations with tools. */
  template?: string;
  toolTemplate?: string;
}

/** Reads what the tokenizer of a model folder is made of. @throws {UserError} as `loadTokenizer`. */
export async function readTokenTable(folder: string): Promise<TokenTable> {
  const files = await readTokenizerFiles(folder);
  const { path, template, toolTemplate } = files;
  const { json, model: fields } = componentsOf(files);
  const model = readTokens(fields);
  // What a normalizer makes of a token is not asked for.
  const { added, named } = vocabularyOf(files, model, "unknown");
  const tokens = new Map<number, { text: string; added?: AddedToken }>();
  for (const [text, id] of model.vocab) tokens.set(id, { text });
  for (const [id, token] of added.tokens) tokens.set(id, { text: token.content, added: token });
  const idOf = (name: string) => named.has(name) ? added.idOf(named.get(name)!) : undefined;
  return { path, json, tokens, idOf, frame: frameOf(files), template, toolTemplate };
}

/** The date that the templates are told, where one of them asks. */
const toldBy = ({ template, toolTemplate }: TokenizerFiles, date?: Date) =>
  templateDate([template, toolTemplate].filter((text) => text !== undefined).join("\n") || undefined, date);

/** What tokenizer.json describes, as the class of the tokenizer has it. */
function componentsOf({ json: written, config, path, tokenizerClass }: TokenizerFiles) {
  const { name, rebuild } = tokenizerClass;
  if (written.version !== undefined && written.version !== "1.0") {
    throw new UserError(`${path}: version: expected "1.0", found ${show(written.version)}`);
  }
  if (rebuild && modelType(Fields.of(written.model, `${path}: model`)) !== "BPE") {
    throw new UserError(`${path}: model: expected BPE, which tokenizer_class ${show(name)} needs`);
  }
  const json = rebuild ? rebuild(written, config) : written;
  const part = <T>(key: string, read: (fields: Fields) => T): T | undefined =>
    json[key] === undefined || json[key] === null ? undefined : read(Fields.of(json[key], `${path}: ${key}`));
  return { json, model: Fields.of(json.model, `${path}: model`), part };
}

/** What V8 refuses is the file's fault, or the text's: expressions and recursion have their bounds there. */
function usable<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof PatternError || error instanceof RangeError)) throw error;
    throw new UserError(`${path}: not a tokenizer that can be used here: ${shorten(error.message, 300)}`);
  }
}

/** @param normalizer "unknown" where it would run regular expressions. */
function vocabularyOf(files: TokenizerFiles, model: Tokens, normalizer: Normalizer | undefined | "unknown") {
  const { path, config, template, fingerprint, tokenizerClass } = files;
  const { json, model: modelFields, part } = componentsOf(files);
  const written = json.added_tokens ?? [];
  if (!Array.isArray(written)) {
    throw new UserError(`${path}: added_tokens: expected a list, found ${show(written)}`);
  }
  const first = written.map((token, i) =>
    addedToken(Fields.of(token, `${path}: added_tokens[${i}]`).json, `${path}: added_tokens[${i}]`)
  );
  const { named, added: further, addedAgain, split } = readSpecialTokens(
    files,
    tokenizerClass,
    new Set(first.map(({ content }) => content)),
  );
  const added = new AddedTokens(model, normalizer, { split, where: path });
  for (const tokens of [first, further, addedAgain]) added.add(tokens);

  const decoder = part("decoder", readDecoder);
  const cleans = config.clean_up_tokenization_spaces === true &&
    (modelType(modelFields) !== "BPE" ||
      config.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output === true);
  const tokenOf = (id: number) => added.textOf(id) ?? model.tokenOf(id);
  const decode: Vocabulary["decode"] = (ids, { skipSpecialTokens = false } = {}) =>
    usable(path, () => {
      const texts: string[] = [];
      for (const id of ids) {
        const text = tokenOf(id);
        if (text !== undefined && !(skipSpecialTokens && added.isSpecial(text))) texts.push(text);
      }
      if (texts.length === 0) return "";
      const text = decoder ? decoder(texts).join("") : texts.join(" ");
      return cleans ? cleanUp(text) : text;
    });
  let vocabSize = model.end;
  for (const id of added.tokens.keys()) vocabSize = Math.max(vocabSize, id + 1);
  const idOf = (name: string) => {
    const token = named.get(name);
    return token === undefined ? undefined : added.idOf(token);
  };
  const known: Vocabulary = {
    decode,
    tokenOf,
    vocabSize,
    chatTemplate: template,
    bosToken: named.get("bos_token"),
    bosTokenId: idOf("bos_token"),
    eosToken: named.get("eos_token"),
    eosTokenId: idOf("eos_token"),
    fingerprint,
  };
  return { known, added, named };
}
