/** `text % values`, as printf writes it. */
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { truncate } from "./numbers.ts";
import { repr, reprAscii, toText } from "./print.ts";
import { pointCount } from "./text.ts";
import { Dict, Float, numberOf, Range, Tuple, typeError, typeName, Undefined, type Value } from "./values.ts";
import { cut, floatDigits, isNegative, lay, valueError, widthOf } from "./field.ts";

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
