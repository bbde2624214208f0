/** A tokenizer as llama.cpp has it. */
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import type { TokenTable } from "../tokenizer/tokenizer.ts";
import type { GgufValue } from "./gguf.ts";
import { preTokenizerName } from "./pre_tokenizers.ts";

/** Numbers of the kinds of tokens. */
const KINDS = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
type Kind = keyof typeof KINDS;

/** Special tokens by their names in transformers, and as keys; one is spelt so there. */
const SPECIAL = {
  bos_token: "bos",
  eos_token: "eos",
  unk_token: "unknown",
  sep_token: "seperator",
  pad_token: "padding",
  mask_token: "mask",
} as const;

/** Every way to part a token is looked at, and none that is published has so many characters. */
const LONGEST = 1024;
/** Scores of tokens that no merge makes: llama.cpp takes the best. */
const LAST = -1e9;

/**
 * Tokens, how they are merged, special ids and chat templates.
 *
 * @param rows of the embedding: ids without a token are named and never made.
 * @param warn told of texts whose tokens are others there.
 * @throws {UserError} by the name of what llama.cpp has no equal of.
 */
export function vocabularyOf(
  table: TokenTable,
  rows: number,
  warn: (message: string) => void = () => {},
): Map<string, GgufValue> {
  const { path, tokens, idOf, template, toolTemplate } = table;
  const largest = [...tokens.keys()].reduce((most, id) => Math.max(most, id), -1);
  if (largest >= rows) {
    throw new UserError(`${path}: has a token of id ${largest}, and the model's embedding only ${rows} rows`);
  }
  const model = isObject(table.json.model) ? table.json.model : {};
  const type = model.type ?? ("merges" in model ? "BPE" : undefined);
  if (type !== "BPE") {
    throw new UserError(`${path}: model: llama.cpp has no equal of a tokenizer of type ${show(type)}`);
  }
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if ((model[key] ?? "") !== "") throw unfit(path, `model.${key}`, model[key]);
  }
  const isSentencePiece = JSON.stringify([table.json.normalizer, table.json.pre_tokenizer]).includes("▁");
  const list = Array.from({ length: rows }, (_, id) => tokens.get(id));
  const unknown = idOf("unk_token");
  const kinds = list.map((token, id): Kind => {
    if (!token) return "unused";
    if (isSentencePiece && id === unknown) return "unknown";
    if (token.added) return token.added.special || looksSpecial(token.text) ? "control" : "userDefined";
    return isSentencePiece && /^<0x[0-9A-F]{2}>$/.test(token.text) ? "byte" : "normal";
  });
  const texts = list.map((token, id) => {
    if (!token) return `[PAD${id}]`;
    // Looked for in the text as it comes, where a space is one.
    return kinds[id] === "userDefined" ? token.text.replaceAll("▁", " ") : token.text;
  });
  const metadata = new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: isSentencePiece ? "llama" : "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: isSentencePiece ? "default" : wayOf(table, model) }],
    ["tokenizer.ggml.tokens", { type: "string[]", value: texts }],
    ["tokenizer.ggml.token_type", { type: "int32[]", value: kinds.map((kind) => KINDS[kind]) }],
  ]);
  const merges = mergesOf(model, path);
  if (isSentencePiece) {
    const scores = scoresOf(merges, list.map((token) => token?.text), kinds, path);
    metadata.set("tokenizer.ggml.scores", { type: "float32[]", value: scores });
    metadata.set("tokenizer.ggml.add_space_prefix", { type: "bool", value: addsSpace(table, warn) });
  } else {
    const value = merges.map(([one, other]) => `${one} ${other}`);
    metadata.set("tokenizer.ggml.merges", { type: "string[]", value });
  }
  for (const [name, key] of Object.entries(SPECIAL)) {
    const id = idOf(name);
    if (id !== undefined) metadata.set(`tokenizer.ggml.${key}_token_id`, { type: "uint32", value: id });
  }
  for (
    const [key, name, ids] of [["bos", "bos_token", table.frame.before], [
      "eos",
      "eos_token",
      table.frame.after,
    ]] as const
  ) {
    if (ids.length > 0 && String(ids) !== String(idOf(name))) {
      throw unfit(path, "post_processor", `ids ${ids.join(", ")} around a text, others than its ${name}`);
    }
    metadata.set(`tokenizer.ggml.add_${key}_token`, { type: "bool", value: ids.length > 0 });
  }
  if (template !== undefined) metadata.set("tokenizer.chat_template", { type: "string", value: template });
  if (toolTemplate !== undefined) {
    metadata.set("tokenizer.chat_templates", { type: "string[]", value: ["tool_use"] });
    metadata.set("tokenizer.chat_template.tool_use", { type: "string", value: toolTemplate });
  }
  return metadata;
}

const unfit = (path: string, key: string, what: unknown) =>
  new UserError(
    `${path}: ${key}: llama.cpp has no equal of ${
      typeof what === "string" ? what : show(what)
    }: its tokens would be others`,
  );

/** Texts of tokens that control a conversation though they are not marked so, as llama.cpp's converter has them. */
const looksSpecial = (text: string) =>
  ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].includes(text) ||
  /^(<\|.*\|>|<｜.*｜>|<unused.*>)$/s.test(text);

/** A component of tokenizer.json, or those of a sequence of them. */
function componentsOf(component: unknown, key: "normalizers" | "pretokenizers"): Record<string, unknown>[] {
  if (!isObject(component)) return [];
  const list = component[key];
  return component.type === "Sequence" && Array.isArray(list)
    ? list.flatMap((part) => componentsOf(part, key))
    : [component];
}

/** How a byte-level tokenizer splits a text. */
function wayOf({ path, json }: TokenTable, model: Record<string, unknown>): string {
  for (const { type } of componentsOf(json.normalizer, "normalizers")) {
    // llama.cpp leaves text as it is; what is composed, as nearly all text, is the same.
    if (type !== "NFC") throw unfit(path, "normalizer", `the normalizer ${show(type)}`);
  }
  const way = preTokenizerName(json.pre_tokenizer, model.ignore_merges === true);
  if (way === undefined) throw unfit(path, "pre_tokenizer", "how the text is split");
  return way;
}

function mergesOf({ merges }: Record<string, unknown>, path: string): [string, string][] {
  const list = Array.isArray(merges) ? merges : [];
  return list.map((merge, i) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")) {
      return pair as [string, string];
    }
    throw new UserError(`${path}: model.merges[${i}]: expected two tokens, found ${show(merge)}`);
  });
}

/**
 * Scores of a SentencePiece tokenizer from its merges, since llama.cpp merges whatever gives the token of the best
 * score.
 * @throws {UserError} where merges have an order that no scores have, or lack some.
 */
function scoresOf(
  merges: readonly (readonly [string, string])[],
  texts: readonly (string | undefined)[],
  kinds: readonly Kind[],
  path: string,
): number[] {
  const known = new Set(texts.filter((text, id) => text !== undefined && kinds[id] === "normal") as string[]);
  const rank = new Map<string, number>();
  const ways = new Map<string, number>();
  let last = "";
  for (const [one, other] of merges) {
    const text = one + other;
    // Tokens that are looked for in the text are never made.
    if (!known.has(text)) continue;
    if (rank.has(text) && text !== last) {
      const what = `the place of ${show(`${one} ${other}`)}, apart from other merges to its token`;
      throw unfit(path, "model.merges", what);
    }
    if (!rank.has(text)) rank.set(text, rank.size);
    ways.set(text, (ways.get(text) ?? 0) + 1);
    last = text;
  }
  for (const text of known) {
    if (text.length > LONGEST) throw unfit(path, "model.vocab", `a token of ${text.length} characters`);
    let splits = 0;
    for (let at = 1; at < text.length; at++) {
      if (known.has(text.slice(0, at)) && known.has(text.slice(at))) splits++;
    }
    if (splits > (ways.get(text) ?? 0)) {
      throw unfit(path, "model.merges", `a lack of merges to ${show(text)}`);
    }
  }
  return texts.map((text, id) => {
    if (text === undefined || kinds[id] !== "normal") return kinds[id] === "byte" ? 0 : -1000;
    const place = rank.get(text);
    return place === undefined ? LAST : -place;
  });
}

/** Whether text begins with a space that is not there; how, of what SentencePiece's are converted to. */
function addsSpace({ path, json }: TokenTable, warn: (message: string) => void): boolean {
  let adds = false;
  if (json.model && (json.model as Record<string, unknown>).ignore_merges === true) {
    throw unfit(path, "model.ignore_merges", true);
  }
  for (const part of componentsOf(json.normalizer, "normalizers")) {
    const isReplace = part.type === "Replace" && isObject(part.pattern) && part.pattern.String === " " &&
      part.content === "▁";
    if (part.type === "Prepend" && part.prepend === "▁") adds = true;
    else if (!isReplace) throw unfit(path, "normalizer", `the normalizer ${show(part.type)}`);
  }
  for (const part of componentsOf(json.pre_tokenizer, "pretokenizers")) {
    // Of a text whose spaces are replaced it finds none.
    const isNothing = part.type === "Split" && isObject(part.pattern) && part.pattern.String === " " &&
      isObject(json.normalizer);
    if (part.type === "Metaspace" && part.replacement === "▁") {
      adds = (part.prepend_scheme ?? (part.add_prefix_space === false ? "never" : "always")) !== "never";
      if (adds) {
        warn(
          `${path}: llama.cpp puts a space before a text that begins with one, which the tokenizer does not`,
        );
      }
    } else if (!isNothing) throw unfit(path, "pre_tokenizer", `the pre-tokenizer ${show(part.type)}`);
  }
  return adds;
}
