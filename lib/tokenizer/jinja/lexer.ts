/** Splits a template into tokens, as Jinja's lexer with trim_blocks and lstrip_blocks does. */
import { TemplateSyntaxError, Unsupported } from "./limits.ts";
import { isWhite, strip, WHITE } from "./text.ts";
import { Float, type Value } from "./values.ts";

export interface Token {
  /** data, begin and end of {{ }} or {% %}, name, string, number (int or float), or an operator's own text. */
  type: string;
  /** Text of data, names and strings; the number. */
  value: Value;
  line: number;
}

const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const NAME = /[_\p{XID_Start}]\p{XID_Continue}*/uy;
const STRING = /'[^'\\]*(?:\\[^][^'\\]*)*'|"[^"\\]*(?:\\[^][^"\\]*)*"/y;
const FLOAT = /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[-+]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const SPACE = new RegExp(`[${WHITE}]+`, "y");
const TAG = new RegExp(`\\{%[-+]?[${WHITE}]*raw[${WHITE}]*(?:-%\\}[${WHITE}]*|%\\})|\\{[{%#][-+]?`, "g");
const END_OF_BLOCK = new RegExp(`\\+%\\}|-%\\}[${WHITE}]*|%\\}\\n?`, "y");
const END_OF_VARIABLE = new RegExp(`-\\}\\}[${WHITE}]*|\\}\\}`, "y");
const END_OF_COMMENT = new RegExp(`\\+#\\}|-#\\}[${WHITE}]*|#\\}\\n?`, "g");
const END_OF_RAW = new RegExp(
  `\\{%([-+]?)[${WHITE}]*endraw[${WHITE}]*(?:\\+%\\}|-%\\}[${WHITE}]*|%\\}\\n?)`,
  "g",
);
const CLOSING: Record<string, string> = { "{": "}", "(": ")", "[": "]" };
/** Brackets within each other; CPython refuses more. */
const MOST_BRACKETS = 200;

export function lex(text: string): Token[] {
  let source = text.replace(/\r\n|\r/g, "\n");
  if (source.endsWith("\n")) source = source.slice(0, -1);
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  let isLineStart = true;

  const matchHere = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  const pass = (part: string) => {
    at += part.length;
    for (let i = part.indexOf("\n"); i >= 0; i = part.indexOf("\n", i + 1)) line++;
    if (part !== "") isLineStart = part.endsWith("\n");
  };
  const data = (part: string, sign: string, isVariable: boolean) => {
    let kept = part;
    if (sign === "-") kept = strip(part, undefined, "right");
    else if (sign !== "+" && !isVariable) {
      const start = part.lastIndexOf("\n") + 1;
      if ((start > 0 || isLineStart) && isWhite(part.slice(start))) kept = part.slice(0, start);
    }
    if (kept !== "") tokens.push({ type: "data", value: kept, line });
    pass(part);
  };

  const lexCode = (end: RegExp, endType: string) => {
    const open: string[] = [];
    while (at < source.length) {
      const closing = open.length === 0 ? matchHere(end) : undefined;
      if (closing !== undefined) {
        tokens.push({ type: endType, value: null, line });
        return pass(closing);
      }
      const space = matchHere(SPACE);
      if (space !== undefined) {
        pass(space);
        continue;
      }
      const [part, token] = nextToken();
      if (part in CLOSING && token.type === part) {
        if (open.push(CLOSING[part]) > MOST_BRACKETS) {
          throw new TemplateSyntaxError("too many nested parentheses", line);
        }
      } else if (token.type === part && "})]".includes(part)) {
        const expected = open.pop();
        if (expected !== part) throw new TemplateSyntaxError(`unexpected '${part}'`, line);
      }
      tokens.push(token);
      pass(part);
    }
  };

  const nextToken = (): [string, Token] => {
    const float = matchHere(FLOAT);
    if (float !== undefined) {
      const number = Number(float.replaceAll("_", ""));
      if (!Number.isFinite(number)) throw new TemplateSyntaxError(`the number ${float} is too large`, line);
      return [float, { type: "number", value: new Float(number), line }];
    }
    const integer = matchHere(INTEGER);
    if (integer !== undefined) {
      if (integer.length > 4300) throw new TemplateSyntaxError("a number has too many digits", line);
      const value = BigInt(integer.replaceAll("_", "").replace(/^0+(?=\d)/, ""));
      const isSafe = value <= BigInt(Number.MAX_SAFE_INTEGER);
      return [integer, { type: "number", value: isSafe ? Number(value) : value, line }];
    }
    const name = matchHere(NAME);
    if (name !== undefined) {
      if (name.normalize("NFKC") !== name) {
        throw new TemplateSyntaxError(`the name ${name} is not NFKC`, line);
      }
      return [name, { type: "name", value: name, line }];
    }
    const string = matchHere(STRING);
    if (string !== undefined) {
      return [string, { type: "string", value: unescape(string.slice(1, -1), line), line }];
    }
    const operator = matchHere(OPERATOR);
    if (operator !== undefined) return [operator, { type: operator, value: operator, line }];
    throw new TemplateSyntaxError(`unexpected char ${JSON.stringify(source[at])}`, line);
  };

  while (at < source.length) {
    TAG.lastIndex = at;
    const tag = TAG.exec(source);
    if (!tag) {
      data(source.slice(at), "+", false);
      break;
    }
    const [begin] = tag;
    const isRaw = begin.length > 3;
    const sign = /[-+]/.exec(begin[2] ?? "")?.[0] ?? "";
    data(source.slice(at, tag.index), sign, begin[1] === "{");
    if (!isRaw && begin[1] !== "#") {
      tokens.push({ type: begin[1] === "{" ? "{{" : "{%", value: null, line });
    }
    pass(begin);
    isLineStart = begin.endsWith("\n");
    if (isRaw || begin[1] === "#") {
      const pattern = isRaw ? END_OF_RAW : END_OF_COMMENT;
      pattern.lastIndex = at;
      const end = pattern.exec(source);
      if (!end) {
        if (at >= source.length) break;
        throw new TemplateSyntaxError(`Missing end of ${isRaw ? "raw directive" : "comment tag"}`, line);
      }
      if (isRaw) data(source.slice(at, end.index), end[1], false);
      else pass(source.slice(at, end.index));
      pass(end[0]);
    } else if (begin[1] === "{") lexCode(END_OF_VARIABLE, "}}");
    else lexCode(END_OF_BLOCK, "%}");
  }
  return tokens;
}

const ESCAPES: Record<string, string> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** A literal's text: `.encode("ascii", "backslashreplace").decode("unicode-escape")`. */
function unescape(literal: string, line: number): string {
  if (!literal.includes("\\")) return literal;
  // A backslash before a character beyond ASCII escapes the backslash that stands for that character.
  const ascii = literal.replace(
    /\\([\u0080-\u{10ffff}])/gu,
    (_, character: string) => `\\\\${hexOf(character)}`,
  );
  return ascii.replace(
    /\\(?:x([\da-fA-F]{0,2})|u([\da-fA-F]{0,4})|U([\da-fA-F]{0,8})|([0-7]{1,3})|([^]))/g,
    (whole, x?: string, u?: string, long?: string, octal?: string, other?: string) => {
      const hex = x ?? u ?? long;
      if (hex !== undefined) {
        const code = parseInt(hex, 16);
        const isWhole = hex.length === (x !== undefined ? 2 : u !== undefined ? 4 : 8);
        if (!isWhole || code > 0x10ffff) {
          throw new TemplateSyntaxError("truncated or illegal escape in a string", line);
        }
        if (code >= 0xd800 && code < 0xe000) throw new Unsupported(`the lone surrogate ${whole}`);
        return String.fromCodePoint(code);
      }
      if (octal !== undefined) return String.fromCharCode(parseInt(octal, 8));
      if (other === "N") throw new Unsupported("a character by its name (\\N)");
      return ESCAPES[other!] ?? whole;
    },
  );
}

function hexOf(character: string): string {
  const code = character.codePointAt(0)!;
  const hex = code.toString(16);
  return code < 0x100
    ? `x${hex.padStart(2, "0")}`
    : code < 0x10000
    ? `u${hex.padStart(4, "0")}`
    : `U${hex.padStart(8, "0")}`;
}
