/**
 * The lines of kernels that access something by an index, as they stand under `kernels/`: which of them no test has
 * run.
 */

/** A line, with what it looks like in the kernels that are made of it. */
export interface TextLine {
  file: string;
  number: number;
  text: string;
  pattern: RegExp;
}

/** Stands where a template of TypeScript has an expression. */
const HOLE = "\0";
/** But what is constant, which WGSL looks at. */
const isAccess = (text: string): boolean =>
  /[\w)\0\]]\[(?!\d+u?\])|\btexture(Load|Store)\b|\bsubgroupMatrix(Load|Store)\b/.test(text);

/** Every line of the files of a folder, WGSL and TypeScript that emits it, that accesses something. */
export function accessLines(folder: string): TextLine[] {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return names.flatMap((file) => {
    const text = Deno.readTextFileSync(`${folder}/${file}`);
    if (file.endsWith(".wgsl")) return linesOf(file, text, 1);
    if (file.endsWith(".ts")) {
      return templatesOf(text).flatMap(({ text, line }) => linesOf(file, text, line));
    }
    return [];
  });
}

const linesOf = (file: string, source: string, first: number): TextLine[] =>
  source.split("\n").flatMap((line, i) => {
    const text = line.replace(/\/\/.*$/, "").trim();
    if (!isAccess(text)) return [];
    const pattern = text.split(HOLE).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*");
    return [{ file, number: first + i, text: text.replaceAll(HOLE, "${}"), pattern: new RegExp(pattern) }];
  });

/** The templates of a program, those in others' expressions too, with a hole for each expression. */
function templatesOf(source: string): { text: string; line: number }[] {
  const found: { text: string; line: number }[] = [];
  let at = 0;
  const template = () => {
    const line = source.slice(0, at).split("\n").length;
    const entry = { text: "", line };
    found.push(entry);
    for (at++; source[at] !== "`"; at++) {
      if (source.startsWith("${", at)) {
        at += 2;
        code("}");
        // Lines stay what they are in the file only up to an expression of several.
        entry.text += HOLE;
      } else if (source[at] === "\\") entry.text += source[++at] === "n" ? "\n" : source[at];
      else entry.text += source[at];
    }
  };
  /** Up to `end`, which no bracket encloses. */
  const code = (end: string) => {
    for (; at < source.length && source[at] !== end; at++) {
      if (source[at] === "`") template();
      else if (source[at] === "{") {
        at++;
        code("}");
      } else if (source[at] === '"' || source[at] === "'") {
        const quote = source[at];
        for (at++; source[at] !== quote; at++) if (source[at] === "\\") at++;
      } else if (source.startsWith("//", at)) at = source.indexOf("\n", at);
      else if (source.startsWith("/*", at)) at = source.indexOf("*/", at) + 1;
      else if (/^\/[^\s/*]/.test(source.slice(at, at + 2)) && /[(,=]\s*$/.test(source.slice(0, at))) {
        // A regular expression.
        for (at++; source[at] !== "/"; at++) if (source[at] === "\\") at++;
      }
    }
  };
  code("");
  return found;
}
