import { show } from "../text/json.ts";
import { fromByteLevel } from "./byte_level.ts";
import type { Fields } from "./fields.ts";
import { literal, type Pattern } from "./regex.ts";

/** Makes texts of tokens. */
export type Decoder = (tokens: string[]) => string[];

/** The decoder that a tokenizer.json describes, as `tokenizers` (Rust) 0.23 reads and runs it. */
export function readDecoder(fields: Fields): Decoder {
  const { type } = fields;
  switch (type) {
    case "Sequence": {
      const decoders = fields.list("decoders").map(readDecoder);
      return (tokens) => decoders.reduce((texts, decode) => decode(texts), tokens);
    }
    case "ByteLevel":
      for (const key of ["add_prefix_space", "trim_offsets"]) fields.flag(key);
      return (tokens) => [fromByteLevel(tokens)];
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "ByteFallback":
      return byteFallback;
    case "Replace":
      return replace(fields);
    case "Strip":
      return strip(fields);
    case "Metaspace":
      return metaspace(fields);
    case "WordPiece":
      return wordPiece(fields);
    case "BPEDecoder": {
      const suffix = fields.text("suffix");
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, () => i === tokens.length - 1 ? "" : " "));
    }
    case "CTC":
      return ctc(fields);
  }
  throw fields.refusal(`the decoder ${show(type)} is not supported`);
}

/** Takes the spaces in front of punctuation and English endings away, as transformers does it too. */
export function cleanUp(text: string, more: [string, string][] = []): string {
  const pairs: [string, string][] = [
    [" .", "."],
    [" ?", "?"],
    [" !", "!"],
    [" ,", ","],
    [" ' ", "'"],
    [
      " n't",
      "n't",
    ],
    [" 'm", "'m"],
    ...more,
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ];
  return pairs.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, () => to), text);
}

const cleanUpWords = (text: string) => cleanUp(text, [[" do not", " don't"]]);

function byteFallback(tokens: string[]): string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    try {
      texts.push(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes)));
    } catch {
      // One sign for each byte, not for each piece that is no UTF-8.
      for (const _ of bytes) texts.push("\ufffd");
    }
    bytes = [];
  };
  for (const token of tokens) {
    // Rust's numbers may have a plus sign.
    const byte = /^<0x([0-9a-fA-F]{2}|\+[0-9a-fA-F])>$/.exec(token);
    if (byte) {
      bytes.push(parseInt(byte[1], 16));
      continue;
    }
    flush();
    texts.push(token);
  }
  flush();
  return texts;
}

function replace(fields: Fields): Decoder {
  const { kind, text } = fields.pattern("pattern");
  // Nothing that is read without a watch runs the expressions of a model's files.
  if (kind === "Regex") throw fields.refusal("regular expressions are not supported there");
  const content = fields.text("content");
  const pattern: Pattern = literal(text);
  return (tokens) =>
    tokens.map((token) => {
      if (text !== "") return token.replaceAll(text, () => content);
      if (token === "") return token;
      let written = "";
      let from = 0;
      const matches = pattern.matches(token);
      for (let i = 0; i < matches.length; i += 2) {
        written += token.slice(from, matches[i]) + content;
        from = matches[i + 1];
      }
      return written + token.slice(from);
    });
}

function strip(fields: Fields): Decoder {
  const content = fields.character("content");
  const start = fields.count("start");
  const stop = fields.count("stop");
  return (tokens) =>
    tokens.map((token) => {
      const characters = [...token];
      let from = 0;
      while (from < start && characters[from] === content) from++;
      let to = characters.length;
      while (characters.length - to < stop && characters[to - 1] === content) to--;
      // Where nothing is left to look at, `tokenizers` ends in a panic.
      if (from > to || (to === 0 && characters.length < stop)) {
        throw fields.refusal(`more is taken from the token ${show(token)} than it has`);
      }
      return characters.slice(from, to).join("");
    });
}

function metaspace(fields: Fields): Decoder {
  const replacement = fields.character("replacement");
  const scheme = fields.oneOf("prepend_scheme", ["always", "first", "never"], "always");
  if (fields.json.add_prefix_space === false && scheme !== "never") {
    throw fields.refusal("add_prefix_space does not go with prepend_scheme");
  }
  return (tokens) =>
    tokens.map((token, i) => token.replaceAll(replacement, () => i === 0 && scheme !== "never" ? "" : " "));
}

function wordPiece(fields: Fields): Decoder {
  const prefix = fields.text("prefix");
  const cleans = fields.flag("cleanup");
  return (tokens) =>
    tokens.map((token, i) => {
      if (i > 0) token = token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleans ? cleanUpWords(token) : token;
    });
}

function ctc(fields: Fields): Decoder {
  const pad = fields.text("pad_token");
  const delimiter = fields.text("word_delimiter_token");
  const cleans = fields.flag("cleanup");
  return (tokens) =>
    tokens.filter((token, i) => i === 0 || token !== tokens[i - 1]).map((token) => {
      const text = token.replaceAll(pad, "");
      return cleans ? cleanUpWords(text).replaceAll(delimiter, () => " ") : text;
    }).filter((text) => text !== "");
}
