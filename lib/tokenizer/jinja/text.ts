/**
 * What Python's str does by Unicode and JavaScript's does otherwise: code points, white space, case and kinds of
 * characters.
 */
import { countList, countSteps, TemplateError } from "./limits.ts";

/** Characters that Python takes for white space, as a class of a regular expression; JavaScript's \s is another set. */
export const WHITE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WHITE_ONLY = new RegExp(`^[${WHITE}]+$`);
const SURROGATE = /[\ud800-\udfff]/;

export const isWhite = (text: string): boolean => WHITE_ONLY.test(text);

/** len(text). */
export function pointCount(text: string): number {
  countSteps(text.length / 256);
  if (!SURROGATE.test(text)) return text.length;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const next = text.charCodeAt(i + 1);
    if (code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000) i++;
    count++;
  }
  return count;
}

/** Characters of a text. */
export const points = (text: string): string[] => SURROGATE.test(text) ? Array.from(text) : text.split("");

/** Whether characters and UTF-16 units of a text are the same. */
export const isSimple = (text: string): boolean => !SURROGATE.test(text);

/** The order of two texts by code points; UTF-16 has those beyond U+FFFF before U+E000. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  countSteps(Math.min(a.length, b.length) / 64);
  if (isSimple(a) && isSimple(b)) return a < b ? -1 : 1;
  for (let i = 0; i < a.length && i < b.length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    const place = (code: number) => code >= 0xd800 && code < 0xe000 ? code + 0x10000 : code;
    return place(x) - place(y);
  }
  return a.length - b.length;
}

/**
 * text.strip(characters); by hand, as a pattern that looks for an end takes time with the square of a run of spaces.
 */
export function strip(
  text: string,
  characters: string | undefined,
  ends: "both" | "left" | "right" = "both",
): string {
  const set = characters === undefined ? undefined : new Set(points(characters));
  const goes = (character: string) => set ? set.has(character) : WHITE_ONLY.test(character);
  let [start, end] = [0, text.length];
  countSteps(1);
  if (ends !== "right") {
    while (start < end) {
      const character = String.fromCodePoint(text.codePointAt(start)!);
      if (!goes(character)) break;
      start += character.length;
    }
  }
  if (ends !== "left") {
    while (end > start) {
      const low = text.charCodeAt(end - 1);
      const isPair = low >= 0xdc00 && low < 0xe000 && end - 2 >= start;
      const character = isPair ? text.slice(end - 2, end) : text[end - 1];
      if (!goes(character)) break;
      end -= character.length;
    }
  }
  countSteps((text.length - end + start) / 8);
  return text.slice(start, end);
}

/** text.splitlines(keepEnds). */
export function splitLines(text: string, keepEnds = false): string[] {
  const lines: string[] = [];
  // deno-lint-ignore no-control-regex
  const ends = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/g;
  let start = 0;
  for (let match = ends.exec(text); match; match = ends.exec(text)) {
    countList(1);
    lines.push(text.slice(start, keepEnds ? ends.lastIndex : match.index));
    start = ends.lastIndex;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

/** text.split(separator, most); `most` below 0 is no limit, without a separator white space splits. */
export function split(
  text: string,
  separator: string | undefined,
  most: number,
  fromRight = false,
): string[] {
  if (separator === "") throw new TemplateError("ValueError", "empty separator");
  if (most < 0) most = Infinity;
  const parts: string[] = [];
  if (separator === undefined) {
    const word = new RegExp(`[^${WHITE}]+`, "g");
    if (!fromRight || most === Infinity) {
      for (let match = word.exec(text); match; match = word.exec(text)) {
        countList(1);
        const isRest = parts.length === most;
        parts.push(isRest ? text.slice(match.index) : match[0]);
        if (isRest) break;
      }
      return parts;
    }
    let rest = strip(text, undefined, "right");
    while (rest !== "" && parts.length < most) {
      countList(1);
      let start = rest.length;
      while (start > 0 && !WHITE_ONLY.test(rest[start - 1])) start--;
      parts.push(rest.slice(start));
      rest = strip(rest.slice(0, start), undefined, "right");
    }
    if (rest !== "") parts.push(rest);
    return parts.reverse();
  }
  if (fromRight && most !== Infinity) {
    let end = text.length;
    while (parts.length < most) {
      const at = end < separator.length ? -1 : text.lastIndexOf(separator, end - separator.length);
      if (at < 0) break;
      countList(1);
      parts.push(text.slice(at + separator.length, end));
      end = at;
    }
    parts.push(text.slice(0, end));
    return parts.reverse();
  }
  let start = 0;
  while (parts.length < most) {
    const at = text.indexOf(separator, start);
    if (at < 0) break;
    countList(1);
    parts.push(text.slice(start, at));
    start = at + separator.length;
  }
  parts.push(text.slice(start));
  return parts;
}

/**
 * The title case of a character, which JavaScript does not know: mostly its upper case, and lower case from the
 * second letter.
 */
function titleOf(character: string): string {
  const code = character.codePointAt(0)!;
  if (code >= 0x1c4 && code <= 0x1cc) return String.fromCodePoint(0x1c5 + 3 * Math.floor((code - 0x1c4) / 3));
  if (code >= 0x1f1 && code <= 0x1f3) return "\u01f2";
  if (code >= 0x10d0 && code <= 0x10ff) return character;
  if (code >= 0x1f80 && code <= 0x1faf) return String.fromCodePoint(code | 8);
  if ([0x1fb3, 0x1fbc, 0x1fc3, 0x1fcc, 0x1ff3, 0x1ffc].includes(code)) {
    return String.fromCodePoint(code & ~0xf | 0xc);
  }
  const upper = character.toUpperCase();
  if (code === 0x149) return upper;
  if (code >= 0x1fb2 && code <= 0x1ff7 && upper.endsWith("\u0399")) return `${upper.slice(0, -1)}\u0345`;
  const [first, ...rest] = Array.from(upper);
  return first + rest.join("").toLowerCase();
}

/** text.capitalize(). */
export function capitalize(text: string): string {
  if (text === "") return text;
  const first = String.fromCodePoint(text.codePointAt(0)!);
  // A final sigma is found by the letters before it.
  return titleOf(first) + text.toLowerCase().slice(first.toLowerCase().length);
}

const CASED = /[\p{Lowercase}\p{Uppercase}\p{Lt}]/u;

/** text.title(). */
export function title(text: string): string {
  const lower = lowerLetters(text);
  let isCased = false;
  return Array.from(text, (character, i) => {
    const letter = isCased ? lower(i) ?? character.toLowerCase() : titleOf(character);
    isCased = CASED.test(character);
    return letter;
  }).join("");
}

/** The lower case of a text's characters by their places, where none becomes two: a sigma's depends on its word. */
function lowerLetters(text: string): (i: number) => string | undefined {
  const lower = Array.from(text.toLowerCase());
  const isSame = lower.length === pointCount(text);
  return (i) => isSame ? lower[i] : undefined;
}

/** text.casefold(). */
export function casefold(text: string): string {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0)!;
    if (code === 0x1e9e) return "ss";
    if (code >= 0x13a0 && code <= 0x13f5) return character;
    if (code >= 0x13f8 && code <= 0x13fd || code >= 0xab70 && code <= 0xabbf) return character.toUpperCase();
    return code === 0x131 ? character : character.toUpperCase().toLowerCase();
  }).join("");
}

/** text.swapcase(). */
export function swapcase(text: string): string {
  const lower = lowerLetters(text);
  return Array.from(text, (character, i) => {
    if (/\p{Uppercase}/u.test(character)) return lower(i) ?? character.toLowerCase();
    return /\p{Lowercase}/u.test(character) ? character.toUpperCase() : character;
  }).join("");
}

// Characters with a digit's value that are no decimal digits, such as ², and ideographs with a number's.
const DIGIT =
  "\\p{Nd}\\xb2\\xb3\\xb9\\u1369-\\u1371\\u19da\\u2070\\u2074-\\u2079\\u2080-\\u2089\\u2460-\\u2468\\u2474-\\u247c" +
  "\\u2488-\\u2490\\u24ea\\u24f5-\\u24fd\\u24ff\\u2776-\\u277e\\u2780-\\u2788\\u278a-\\u2792\\u{10a40}-\\u{10a43}" +
  "\\u{10e60}-\\u{10e68}\\u{11052}-\\u{1105a}\\u{1f100}-\\u{1f10a}";
const NUMERIC =
  "\\p{N}㐅㒃㠪㭍一七万三九二五亖亿-什仟仨伍佰億兆兩八六十卄-卆卌叁-叄四壱壹幺廾-廿弌-弎弐拾捌柒漆玖百肆萬貮貳贰" +
  "阡陆陌陸零\\uf96b\\uf973\\uf978\\uf9b2\\uf9d1\\uf9d3\\uf9fd\\u{20001}\\u{20064}\\u{200e2}\\u{20121}\\u{2092a}" +
  "\\u{20983}\\u{2098c}\\u{2099c}\\u{20aea}\\u{20afd}\\u{20b19}\\u{22390}\\u{22998}\\u{23b1b}\\u{2626d}\\u{2f890}";
const whole = (set: string) => new RegExp(`^[${set}]+$`, "u");

/** str.isalpha() and its kin. */
export const KINDS: Record<string, (text: string) => boolean> = {
  isalpha: (text) => ALPHA.test(text),
  isdecimal: (text) => DECIMAL.test(text),
  isdigit: (text) => DIGITS.test(text),
  isnumeric: (text) => NUMERICS.test(text),
  isalnum: (text) => ALPHANUMERIC.test(text),
  isspace: isWhite,
  isascii: (text) => ASCII.test(text),
  isprintable: (text) => !NOT_PRINTABLE.test(text),
  isidentifier: (text) => /^[_\p{XID_Start}]\p{XID_Continue}*$/u.test(text),
  isupper: (text) => /\p{Uppercase}/u.test(text) && !/[\p{Lowercase}\p{Lt}]/u.test(text),
  islower: (text) => /\p{Lowercase}/u.test(text) && !/[\p{Uppercase}\p{Lt}]/u.test(text),
  istitle: isTitle,
};
const ALPHA = whole("\\p{L}");
const DECIMAL = whole("\\p{Nd}");
const DIGITS = whole(DIGIT);
const NUMERICS = whole(NUMERIC);
const ALPHANUMERIC = whole(`\\p{L}${DIGIT}${NUMERIC}`);
// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;
/** What repr() writes as an escape. */
export const NOT_PRINTABLE = /(?! )[\p{C}\p{Z}]/u;

function isTitle(text: string): boolean {
  let [found, inWord] = [false, false];
  for (const character of text) {
    const isUpper = /[\p{Uppercase}\p{Lt}]/u.test(character);
    if (!isUpper && !/\p{Lowercase}/u.test(character)) {
      inWord = false;
      continue;
    }
    if (isUpper === inWord) return false;
    [found, inWord] = [true, true];
  }
  return found;
}
