import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { readBpe } from "./bpe.ts";
import type { Fields } from "./fields.ts";
import { readUnigram } from "./unigram.ts";
import { type Model, readTokens } from "./vocab.ts";

/** The model that a tokenizer.json describes. */
export function readModel(fields: Fields): Model {
  const type = modelType(fields);
  switch (type) {
    case "BPE":
      return readBpe(fields);
    case "Unigram":
      return readUnigram(fields);
    case "WordPiece":
      return readWordPiece(fields);
    case "WordLevel":
      return readWordLevel(fields);
  }
  throw fields.refusal(`the model ${show(type)} is not supported`);
}

/** Files of early versions do not name the type. */
export function modelType({ json }: Fields): string {
  if (typeof json.type === "string") return json.type;
  if ("merges" in json) return "BPE";
  if ("max_input_chars_per_word" in json) return "WordPiece";
  return Array.isArray(json.vocab) ? "Unigram" : "WordLevel";
}

function unknownOf(fields: Fields, vocab: Map<string, number>): (piece: string) => number[] {
  const token = fields.text("unk_token");
  const id = vocab.get(token);
  return (piece) => {
    if (id !== undefined) return [id];
    throw new UserError(
      `${fields.where}: ${show(piece)} is no token, and unk_token ${show(token)} is none either`,
    );
  };
}

function readWordLevel(fields: Fields): Model {
  const tokens = readTokens(fields);
  const { vocab } = tokens;
  const unknown = unknownOf(fields, vocab);
  const idsOf = (piece: string) => {
    const id = vocab.get(piece);
    return id === undefined ? unknown(piece) : [id];
  };
  return { ...tokens, idsOf };
}

/** The longest token at the start of a word, then the longest with the prefix at each place where one ended. */
function readWordPiece(fields: Fields): Model {
  const tokens = readTokens(fields);
  const { vocab } = tokens;
  const unknown = unknownOf(fields, vocab);
  const prefix = fields.text("continuing_subword_prefix");
  const most = fields.count("max_input_chars_per_word");
  let longest = 0;
  for (const token of vocab.keys()) longest = Math.max(longest, token.length);

  const idsOf = (piece: string): number[] => {
    if (piece.length > most && [...piece].length > most) return unknown(piece);
    const ids: number[] = [];
    for (let start = 0; start < piece.length;) {
      let end = Math.min(piece.length, start + longest);
      let id: number | undefined;
      for (; end > start; end--) {
        // Half a character is none.
        if (isLowSurrogate(piece, end)) continue;
        const part = piece.slice(start, end);
        id = vocab.get(start > 0 ? prefix + part : part);
        if (id !== undefined) break;
      }
      if (id === undefined) return unknown(piece);
      ids.push(id);
      start = end;
    }
    return ids;
  };
  return { ...tokens, idsOf };
}

const isLowSurrogate = (text: string, i: number) => text[i] >= "\udc00" && text[i] <= "\udfff";
