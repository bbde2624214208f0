/** Python's ways to put values into texts: `text % values`, str.format() and format(). */
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { exponential, fixed, general, reprFloat, truncate } from "./numbers.ts";
import { repr, reprAscii, toText } from "./print.ts";
import { pointCount, points } from "./text.ts";
import {
  Dict,
  Float,
  type Keywords,
  Markup,
  numberOf,
  Range,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

const valueError = (message: string) => new TemplateError("ValueError", message);

/** Characters of a width or precision; beyond, Python would make texts of gigabytes. */
const MOST_WIDTH = 1_000_000;

function widthOf(digits: string): number {
  const width = Number(digits);
  if (width > MOST_WIDTH) throw new Unsupported(`a width or precision of ${digits}`);
  return width;
}

interface Layout {
  fill: string;
  align: "<" | ">" | "^" | "=";
  width: number;
}

/** A text in its field; `=` fills between the sign (or 0x) and the digits. */
function lay(sign: string, body: string, { fill, align, width }: Layout): string {
  const missing = width - pointCount(sign + body);
  if (missing <= 0) return sign + body;
  countText(missing);
  const left = align === ">" ? missing : align === "^" ? Math.floor(missing / 2) : 0;
  if (align === "=") return sign + fill.repeat(missing) + body;
  return fill.repeat(left) + sign + body + fill.repeat(missing - left);
}

const cut = (text: string, most: number | undefined) =>
  most === undefined || pointCount(text) <= most ? text : points(text).slice(0, most).join("");

/** The digits of a float's size by one of the letters e, f, g, in either case. */
function floatDigits(size: number, letter: string, precision: number, keepsZeros: boolean): string {
  const kind = letter.toLowerCase();
  let text: string;
  if (Number.isNaN(size)) text = "nan";
  else if (!Number.isFinite(size)) text = "inf";
  else if (kind === "f") text = fixed(size, precision);
  else if (kind === "e") text = exponential(size, precision).text;
  else text = general(size, precision, keepsZeros);
  return letter === kind ? text : text.toUpperCase();
}

const isNegative = (value: number) => value < 0 || Object.is(value, -0);

/** `format % values`. */
export function percent(format: string, values: Value): string {
  const isMap = Array.isArray(values) || values instanceof Dict || values instanceof Undefined ||
    values instanceof Range;
  const items = values instanceof Tuple ? values.items : [values];
  let used = 0;
  const next = () => {
    if (used >= items.length) throw typeError("not enough arguments for format string");
    return items[used++];
  };
  const pattern = /%(?:\(((?:[^()]|\([^()]*\))*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?[hlL]?([^]?)/uy;
  let result = "";
  let at = 0;
  for (let percentAt = format.indexOf("%"); percentAt >= 0; percentAt = format.indexOf("%", at)) {
    result += format.slice(at, percentAt);
    pattern.lastIndex = percentAt;
    const match = pattern.exec(format);
    if (!match || match[5] === "") throw valueError("incomplete format");
    at = pattern.lastIndex;
    const [, key, flags, starOrWidth, starOrPrecision, letter] = match;
    const size = (digits: string) => {
      if (digits !== "*") return widthOf(digits || "0");
      const value = next();
      if (typeof value !== "number") throw typeError("* wants int");
      return widthOf(String(value));
    };
    let single: Value | undefined;
    if (key !== undefined) {
      if (!isMap) throw typeError("format requires a mapping");
      if (values instanceof Undefined) values.fail();
      if (!(values instanceof Dict)) throw typeError("indices must be integers or slices, not str");
      single = values.get(key);
      if (single === undefined) throw new TemplateError("KeyError", repr(key));
    }
    let width = starOrWidth === undefined ? 0 : size(starOrWidth);
    const isLeft = flags.includes("-") || width < 0;
    width = Math.abs(width);
    const precision = starOrPrecision === undefined ? undefined : Math.max(0, size(starOrPrecision));
    if (letter === "%") {
      result += "%";
      continue;
    }
    const value = single ?? next();
    const text = converted(value, letter, flags, precision);
    const isNumber = !"sracb".includes(letter);
    const fillsZero = isNumber && flags.includes("0") && !isLeft;
    result += lay(text[0], text[1], {
      fill: fillsZero ? "0" : " ",
      align: isLeft ? "<" : fillsZero ? "=" : ">",
      width,
    });
    countText(result.length - percentAt);
  }
  if (!isMap && used < items.length) {
    throw typeError("not all arguments converted during string formatting");
  }
  return result + format.slice(at);
}

/** Sign (with 0x and the like) and body of one value of `format % values`. */
function converted(value: Value, letter: string, flags: string, precision?: number): [string, string] {
  const sign = (negative: boolean) =>
    negative ? "-" : flags.includes("+") ? "+" : flags.includes(" ") ? " " : "";
  if (letter === "s") return ["", cut(toText(value), precision)];
  if (letter === "r") return ["", cut(repr(value), precision)];
  if (letter === "a") return ["", cut(reprAscii(value), precision)];
  const number = numberOf(value);
  if (letter === "c") {
    if (typeof value === "string" && pointCount(value) === 1) return ["", value];
    if (typeof number !== "number" || value instanceof Float) throw typeError("%c requires int or char");
    return ["", character(number)];
  }
  if ("eEfFgG".includes(letter)) {
    if (value instanceof Undefined) value.fail();
    if (number === undefined) throw typeError(`must be real number, not ${typeName(value)}`);
    const float = Number(number);
    const digits = floatDigits(Math.abs(float), letter, precision ?? 6, flags.includes("#"));
    if (flags.includes("#") && !digits.includes(".")) throw new Unsupported("the flag # of a float");
    return [sign(isNegative(float)), digits];
  }
  const base = { d: 10, i: 10, u: 10, o: 8, x: 16, X: 16 }[letter];
  if (base === undefined) throw valueError(`unsupported format character '${letter}'`);
  if (value instanceof Undefined && base === 10) value.fail();
  if (number === undefined || value instanceof Float && base !== 10) {
    throw typeError(`%${letter} format: a number is required, not ${typeName(value)}`);
  }
  const whole = value instanceof Float ? truncate(value.value) : number;
  const size = (whole < 0 ? -whole : whole).toString(base);
  const digits = (letter === "X" ? size.toUpperCase() : size).padStart(precision ?? 0, "0");
  return [sign(whole < 0) + (flags.includes("#") && base !== 10 ? `0${letter}` : ""), digits];
}

function character(code: number): string {
  if (code < 0 || code > 0x10ffff) throw new TemplateError("OverflowError", "%c arg not in range(0x110000)");
  if (code >= 0xd800 && code < 0xe000) throw new Unsupported("a lone surrogate");
  return String.fromCodePoint(code);
}

/** format(value, spec). */
export function format(value: Value, spec: string): string {
  if (spec === "") return toText(value);
  const isText = typeof value === "string";
  const number = numberOf(value);
  if (value instanceof Markup) throw new Unsupported("a format of text that is marked as HTML");
  if (!isText && number === undefined) {
    throw typeError(`unsupported format string passed to ${typeName(value)}.__format__`);
  }
  const match = /^(?:([^])?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/u.exec(spec);
  if (!match) throw valueError("Invalid format specifier");
  const [, fill, align, sign, z, alternate, zero, width, group, precision, letter] = match;
  const layout: Layout = {
    fill: fill ?? (zero ? "0" : " "),
    align: (align ?? (isText ? "<" : zero ? "=" : ">")) as Layout["align"],
    width: widthOf(width ?? "0"),
  };
  const places = precision === undefined ? undefined : widthOf(precision);
  if (z || alternate && value instanceof Float) throw new Unsupported(`the format specifier ${spec}`);
  if (isText) {
    if (sign || alternate || group || layout.align === "=" || letter !== undefined && letter !== "s") {
      throw valueError("Invalid format specifier for a str");
    }
    return lay("", cut(value, places), layout);
  }
  const signOf = (negative: boolean) => negative ? "-" : sign === "+" || sign === " " ? sign : "";
  const isWhole = !(value instanceof Float) && (letter === undefined || "bcdoxXn".includes(letter));
  if (isWhole) {
    if (places !== undefined) throw valueError("Precision not allowed in integer format specifier");
    if (letter === "c" || letter === "n") throw new Unsupported(`the format specifier ${spec}`);
    const base = { b: 2, o: 8, x: 16, X: 16 }[letter as string] ?? 10;
    if (group === "," && base !== 10) throw valueError(`Cannot specify ',' with '${letter}'.`);
    const digits = (number! < 0 ? -number! : number!).toString(base);
    const prefix = alternate && base !== 10 ? `0${letter}` : "";
    const body = letter === "X" ? digits.toUpperCase() : digits;
    return lay(
      signOf(number! < 0) + prefix,
      grouped(body, group, base === 10 ? 3 : 4, layout, signOf(number! < 0) + prefix),
      layout,
    );
  }
  if (letter !== undefined && !"eEfFgG%".includes(letter)) {
    throw valueError(`Unknown format code '${letter}' for object of type '${typeName(value)}'`);
  }
  const float = Number(number);
  if (letter === undefined && places !== undefined) throw new Unsupported(`the format specifier ${spec}`);
  const size = Math.abs(letter === "%" ? float * 100 : float);
  const digits = letter === undefined
    ? reprFloat(size)
    : floatDigits(size, letter === "%" ? "f" : letter, places ?? 6, false) + (letter === "%" ? "%" : "");
  if (!Number.isFinite(size) && layout.fill === "0") throw new Unsupported(`the format specifier ${spec}`);
  const [whole, ...rest] = digits.split(/(?=[.e%E])/);
  const body =
    grouped(whole, group, 3, { ...layout, width: layout.width - rest.join("").length }, signOf(float < 0)) +
    rest.join("");
  return lay(signOf(isNegative(float)), body, layout);
}

/** Digits with a separator between groups; zeros that fill a field are grouped with them. */
function grouped(
  digits: string,
  separator: string | undefined,
  size: number,
  { fill, align, width }: Layout,
  sign: string,
): string {
  if (separator === undefined) return digits;
  const group = (text: string) => text.replace(new RegExp(`\\B(?=(.{${size}})+$)`, "g"), separator);
  if (fill !== "0" || align !== "=") return group(digits);
  let padded = digits;
  while (group(padded).length + sign.length < width) padded = `0${padded}`;
  return group(padded);
}

/** How a field such as `{message.content}` or `{0[role]}` looks into a value. */
export interface Lookup {
  attribute: (of: Value, name: string) => Value;
  item: (of: Value, item: Value) => Value;
}

/** text.format(*args, **keywords). */
export function formatText(
  text: string,
  args: readonly Value[],
  keywords: Keywords,
  lookup: Lookup,
): string {
  let automatic: number | undefined = 0;

  const valueOf = (name: string): Value => {
    const [first] = /^[^.[]*/.exec(name)!;
    let key = first;
    if (key === "") {
      if (automatic === undefined) {
        throw valueError("cannot switch from manual field specification to automatic field numbering");
      }
      key = String(automatic++);
    } else if (/^\d+$/.test(key)) {
      if (automatic) {
        throw valueError("cannot switch from automatic field numbering to manual field specification");
      }
      automatic = undefined;
    }
    let value: Value | undefined;
    if (/^\d+$/.test(key)) {
      value = args[Number(key)];
      if (value === undefined) {
        throw new TemplateError(
          "IndexError",
          `Replacement index ${key} out of range for positional args tuple`,
        );
      }
    } else {
      value = keywords.get(key);
      if (value === undefined) throw new TemplateError("KeyError", repr(key));
    }
    for (let rest = name.slice(first.length); rest !== "";) {
      const part = /^(?:\.([^.[]+)|\[([^\]]+)\])/.exec(rest);
      if (!part) throw valueError("Empty attribute in format string");
      const [whole, attribute, item] = part;
      rest = rest.slice(whole.length);
      if (attribute !== undefined) value = lookup.attribute(value, attribute);
      else value = lookup.item(value, /^\d+$/.test(item) ? Number(item) : item);
    }
    return value;
  };

  const fill = (pattern: string, depth: number): string => {
    if (depth < 0) throw valueError("Max string recursion exceeded");
    let result = "";
    for (let at = 0; at < pattern.length;) {
      const literal = /[^{}]*/y;
      literal.lastIndex = at;
      result += literal.exec(pattern)![0];
      at = literal.lastIndex;
      if (at >= pattern.length) break;
      if (pattern[at + 1] === pattern[at]) {
        result += pattern[at];
        at += 2;
        continue;
      }
      if (pattern[at] === "}") throw valueError("Single '}' encountered in format string");
      const end = fieldEnd(pattern, at + 1);
      const field = /^((?:\[[^\]]*\]?|[^:!{}[])*)(?:!([^:]*))?(?::([^]*))?$/.exec(pattern.slice(at + 1, end));
      if (!field) throw valueError("unexpected '{' in field name");
      const [, name, conversion, spec = ""] = field;
      let value = valueOf(name);
      if (conversion !== undefined) {
        if (!["s", "r", "a"].includes(conversion)) throw valueError("Unknown conversion specifier");
        value = conversion === "s" ? toText(value) : conversion === "r" ? repr(value) : reprAscii(value);
      }
      const text = format(value, fill(spec, depth - 1));
      countText(text.length);
      result += text;
      at = end + 1;
    }
    return result;
  };
  return fill(text, 2);
}

/** Where the brace that closes a field is. */
function fieldEnd(format: string, start: number): number {
  let open = 1;
  for (let at = start; at < format.length; at++) {
    if (format[at] === "[" && open === 1) {
      const close = format.indexOf("]", at);
      if (close > 0) at = close;
    } else if (format[at] === "{") open++;
    else if (format[at] === "}" && --open === 0) return at;
  }
  throw valueError(
    start >= format.length ? "Single '{' encountered in format string" : "expected '}' before end of string",
  );
}
