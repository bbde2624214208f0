/** str.format() and format(). */
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { reprFloat } from "./float_text.ts";
import { repr, reprAscii, toText } from "./print.ts";
import { Float, type Keywords, Markup, numberOf, typeError, typeName, type Value } from "./values.ts";
import { cut, floatDigits, isNegative, lay, type Layout, valueError, widthOf } from "./field.ts";

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
