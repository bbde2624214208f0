/** The words of WGSL, as far as kernels have them. */

export interface Token {
  /** As in the source, but for `‹` and `›`, which stand around what is in a template. */
  text: string;
  /** Where it begins in the source. */
  at: number;
}

const TOKEN =
  /\/\/[^\n]*|\/\*[^]*?\*\/|\s+|([A-Za-z_]\w*|0x[\da-fA-F]+[ui]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[uifh]?|&&|\|\||<=|>=|==|!=|->|.)/gy;
/** Words behind which `<` opens a template. */
const HAS_TEMPLATE =
  /^(array|vec[234]|mat[234]x[234]|ptr|atomic|bitcast|var|texture_\w+|subgroup_matrix_\w+|subgroupMatrix(Load|Store))$/;

/** The words of `source` without comments; `>>` is two, since it may end two templates. */
export function tokens(source: string): Token[] {
  const words: Token[] = [];
  // Whether each `<` that is open is a template's: those of a comparison are not closed.
  let templates = 0;
  for (const { 1: text, index: at } of source.matchAll(TOKEN)) {
    if (!text) continue;
    if (text === "<" && HAS_TEMPLATE.test(words.at(-1)?.text ?? "")) {
      templates++;
      words.push({ text: "‹", at });
    } else if (text.startsWith(">") && templates > 0) {
      templates--;
      words.push({ text: "›", at });
      // `array<f32, 4>= 0` is not written here, and `>=` would be one word.
      if (text !== ">") throw new Error(`${text} behind a template is not understood`);
    } else words.push({ text, at });
  }
  return words;
}

const PAIRS: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}", "‹": "›" };
const CLOSING = Object.values(PAIRS);

/** The number of the word that closes the bracket at `open`. */
export function closing(words: readonly Token[], open: number): number {
  let depth = 0;
  for (let i = open; i < words.length; i++) {
    if (words[i].text in PAIRS) depth++;
    else if (CLOSING.includes(words[i].text) && --depth === 0) return i;
  }
  throw new Error(`${words[open].text} is not closed`);
}

/** The number of the word that opens the bracket which closes at `close`. */
export function opening(words: readonly Token[], close: number): number {
  let depth = 0;
  for (let i = close; i >= 0; i--) {
    if (CLOSING.includes(words[i].text)) depth++;
    else if (words[i].text in PAIRS && --depth === 0) return i;
  }
  throw new Error(`${words[close].text} is not opened`);
}

/** The number of the word behind the one at `i` and its template, where it has one. */
export const pastName = (words: readonly Token[], i: number): number =>
  words[i + 1]?.text === "‹" ? closing(words, i + 1) + 1 : i + 1;

/** `words` between those which are among `marks` and stand in no bracket. */
export function parted(words: readonly Token[], marks: readonly string[]): Token[][] {
  const parts: Token[][] = [[]];
  let depth = 0;
  for (const word of words) {
    if (word.text in PAIRS) depth++;
    if (CLOSING.includes(word.text)) depth--;
    if (depth === 0 && marks.includes(word.text)) parts.push([]);
    else parts.at(-1)!.push(word);
  }
  return parts.filter((part) => part.length > 0);
}

/** What stands between the commas of the bracket at `open`. */
export const listed = (words: readonly Token[], open: number): Token[][] =>
  parted(words.slice(open + 1, closing(words, open)), [","]);

/** Words as text again. */
export const textOf = (words: readonly Token[]): string =>
  words.map(({ text }) => text === "‹" ? "<" : text === "›" ? ">" : text).join(" ");
