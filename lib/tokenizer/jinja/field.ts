/** A field of a format: a text within its width, and the digits of a float. */
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { exponential, fixed, general } from "./float_text.ts";
import { pointCount, points } from "./text.ts";

export const valueError = (message: string) => new TemplateError("ValueError", message);

/** Characters of a width or precision; beyond, Python would make texts of gigabytes. */
const MOST_WIDTH = 1_000_000;

export function widthOf(digits: string): number {
  const width = Number(digits);
  if (width > MOST_WIDTH) throw new Unsupported(`a width or precision of ${digits}`);
  return width;
}

export interface Layout {
  fill: string;
  align: "<" | ">" | "^" | "=";
  width: number;
}

/** A text in its field; `=` fills between the sign (or 0x) and the digits. */
export function lay(sign: string, body: string, { fill, align, width }: Layout): string {
  const missing = width - pointCount(sign + body);
  if (missing <= 0) return sign + body;
  countText(missing);
  const left = align === ">" ? missing : align === "^" ? Math.floor(missing / 2) : 0;
  if (align === "=") return sign + fill.repeat(missing) + body;
  return fill.repeat(left) + sign + body + fill.repeat(missing - left);
}

export const cut = (text: string, most: number | undefined) =>
  most === undefined || pointCount(text) <= most ? text : points(text).slice(0, most).join("");

/** The digits of a float's size by one of the letters e, f, g, in either case. */
export function floatDigits(size: number, letter: string, precision: number, keepsZeros: boolean): string {
  const kind = letter.toLowerCase();
  let text: string;
  if (Number.isNaN(size)) text = "nan";
  else if (!Number.isFinite(size)) text = "inf";
  else if (kind === "f") text = fixed(size, precision);
  else if (kind === "e") text = exponential(size, precision).text;
  else text = general(size, precision, keepsZeros);
  return letter === kind ? text : text.toUpperCase();
}

export const isNegative = (value: number) => value < 0 || Object.is(value, -0);
