import { countText, TemplateError, Unsupported } from "./limits.ts";
import { pointCount, points, strip } from "./text.ts";

const WORD_CHARACTER = `[\\p{L}\\p{N}_!"'&.,?]`;
const LETTER = "[\\p{L}_]";
// textwrap's wordsep_re: white space, dashes between words, words up to a hyphen, or whole words.
const CHUNK = new RegExp(
  "([\\t\\n\\v\\f\\r ]+|" +
    `(?<=${WORD_CHARACTER})-{2,}(?=[\\p{L}\\p{N}_])|` +
    `[^\\t\\n\\v\\f\\r ]+?(?:-(?:(?<=${LETTER}{2}-)|(?<=${LETTER}-${LETTER}-))(?=${LETTER}-?${LETTER})|` +
    `(?=[\\t\\n\\v\\f\\r ]|$)|(?<=${WORD_CHARACTER})(?=-{2,}[\\p{L}\\p{N}_])))`,
  "u",
);
const SPACES = /([\t\n\v\f\r ]+)/;

/** Python's textwrap.wrap() without changes of white space. */
export function wrap(line: string, width: number, breaksWords: boolean, breaksHyphens: boolean): string[] {
  if (width <= 0) throw new TemplateError("ValueError", `invalid width ${width} (must be > 0)`);
  countText(8 * line.length);
  if (line.length > 100_000) {
    throw new Unsupported("the filter wordwrap of a line of more than 100000 characters");
  }
  const chunks = line.split(breaksHyphens ? CHUNK : SPACES).filter((chunk) => chunk !== "").reverse();
  const isBlank = (chunk: string) => strip(chunk, undefined) === "";
  const lines: string[] = [];
  while (chunks.length > 0) {
    const current: string[] = [];
    let length = 0;
    if (isBlank(chunks.at(-1)!) && lines.length > 0) chunks.pop();
    while (chunks.length > 0 && length + pointCount(chunks.at(-1)!) <= width) {
      const chunk = chunks.pop()!;
      current.push(chunk);
      length += pointCount(chunk);
    }
    if (chunks.length > 0 && pointCount(chunks.at(-1)!) > width) {
      const space = width - length;
      if (breaksWords) {
        const chunk = points(chunks.at(-1)!);
        let end = space;
        if (breaksHyphens && chunk.length > space) {
          const hyphen = chunk.slice(0, space).lastIndexOf("-");
          if (hyphen > 0 && chunk.slice(0, hyphen).some((character) => character !== "-")) end = hyphen + 1;
        }
        current.push(chunk.slice(0, end).join(""));
        chunks[chunks.length - 1] = chunk.slice(end).join("");
      } else if (current.length === 0) current.push(chunks.pop()!);
      length = current.reduce((sum, chunk) => sum + pointCount(chunk), 0);
    }
    if (current.length > 0 && isBlank(current.at(-1)!)) current.pop();
    if (current.length > 0) lines.push(current.join(""));
  }
  return lines;
}
