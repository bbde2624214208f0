/** How values are written: str(), repr() and json.dumps(). */
import { countSteps, countText, Unsupported } from "./limits.ts";
import { reprFloat } from "./float_text.ts";
import { NOT_PRINTABLE, points } from "./text.ts";
import {
  Callable,
  Described,
  Dict,
  Float,
  Markup,
  Namespace,
  numberOf,
  PythonObject,
  Range,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";
import { inOrder } from "./comparison.ts";

/** str(value). */
export function toText(value: Value): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (value instanceof Markup) return value.text;
  if (value instanceof Undefined) return "";
  return repr(value);
}

/** repr(value). */
export function repr(value: Value): string {
  countSteps(1);
  if (typeof value === "string") return counted(reprText(value));
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof Float) return reprFloat(value.value);
  if (Array.isArray(value)) return counted(`[${value.map(repr).join(", ")}]`);
  if (value instanceof Tuple) {
    return counted(`(${value.items.map(repr).join(", ")}${value.items.length === 1 ? "," : ""})`);
  }
  if (value instanceof Dict) return counted(reprDict(value.entries()));
  if (value instanceof Namespace) return counted(`<Namespace ${reprDict([...value.values])}>`);
  if (value instanceof View) return counted(`${value.type}(${repr(value.list())})`);
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Markup) return counted(`Markup(${reprText(value.text)})`);
  if (value instanceof Range) {
    return `range(${value.start}, ${value.stop}${value.step === 1 ? "" : `, ${value.step}`})`;
  }
  if (value instanceof Callable && value.shown !== undefined) return value.shown;
  const own = value instanceof Described ? value.attribute("__repr__") : undefined;
  if (own !== undefined) return own as string;
  throw new Unsupported(`writing a ${(value as PythonObject).type} as text`);
}

const reprDict = (entries: readonly [Value, Value][]) =>
  `{${entries.map(([key, value]) => `${repr(key)}: ${repr(value)}`).join(", ")}}`;

function counted(text: string): string {
  countText(text.length);
  return text;
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function reprText(text: string): string {
  countText(text.length);
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  if (!NOT_PRINTABLE.test(text) && !text.includes("\\") && !text.includes(quote)) return quote + text + quote;
  countText(16 * text.length);
  const written = points(text).map((character) => {
    if (character === quote) return `\\${quote}`;
    return ESCAPES[character] ?? (NOT_PRINTABLE.test(character) ? escaped(character) : character);
  });
  return quote + written.join("") + quote;
}

/** ascii(value). */
export const reprAscii = (value: Value): string =>
  repr(value).replace(/[^ -~]/gu, (character) => escaped(character));

function escaped(character: string): string {
  const code = character.codePointAt(0)!;
  const hex = code.toString(16);
  return code < 0x100
    ? `\\x${hex.padStart(2, "0")}`
    : code < 0x10000
    ? `\\u${hex.padStart(4, "0")}`
    : `\\U${hex.padStart(8, "0")}`;
}

/** How json.dumps writes. */
export interface JsonStyle {
  ensureAscii: boolean;
  /** Text of one level's indentation; undefined writes all in one line. */
  indent: string | undefined;
  itemSeparator: string;
  keySeparator: string;
  sortKeys: boolean;
}

/** json.dumps(value). */
export function toJson(value: Value, style: JsonStyle, level = 0): string {
  countSteps(1);
  if (typeof value === "string") return jsonText(value, style);
  if (value === null) return "null";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof Float) return jsonFloat(value.value);
  if (value instanceof Markup) return jsonText(value.text, style);
  const around = (open: string, items: readonly string[], close: string) => {
    if (items.length === 0) return open + close;
    if (style.indent === undefined) return counted(open + items.join(style.itemSeparator) + close);
    countText((level + 1) * style.indent.length * (items.length + 1));
    const line = `\n${style.indent.repeat(level + 1)}`;
    const last = `\n${style.indent.repeat(level)}`;
    return counted(open + line + items.join(style.itemSeparator + line) + last + close);
  };
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
  if (items) return around("[", items.map((item) => toJson(item, style, level + 1)), "]");
  if (!(value instanceof Dict)) {
    throw typeError(`Object of type ${typeName(value)} is not JSON serializable`);
  }
  const entries = value.entries();
  if (style.sortKeys) {
    entries.sort(([a], [b]) => inOrder(a, b, "<") ? -1 : inOrder(b, a, "<") ? 1 : 0);
  }
  return around(
    "{",
    entries.map(([key, item]) =>
      `${jsonText(jsonKey(key), style)}${style.keySeparator}${toJson(item, style, level + 1)}`
    ),
    "}",
  );
}

function jsonKey(key: Value): string {
  if (typeof key === "string") return key;
  if (key instanceof Markup) return key.text;
  if (key === null) return "null";
  if (key instanceof Float) return jsonFloat(key.value);
  if (numberOf(key) !== undefined) return String(key);
  throw typeError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? reprFloat(value) : value < 0 ? "-Infinity" : "Infinity";
}

// deno-lint-ignore no-control-regex
const IN_JSON = /["\\\x00-\x1f]/g;
const IN_ASCII_JSON = /["\\]|[^\x20-\x7e]/g;
const JSON_ESCAPES: Record<string, string> = {
  '"': '\\"',
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\f": "\\f",
  "\b": "\\b",
};

function jsonText(text: string, { ensureAscii }: JsonStyle): string {
  countText(text.length + 2);
  const written = text.replace(
    ensureAscii ? IN_ASCII_JSON : IN_JSON,
    (unit) => JSON_ESCAPES[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  countText(written.length - text.length);
  return `"${written}"`;
}

/** The HTML entities of markupsafe.escape(). */
export function escapeHtml(text: string): string {
  countText(text.length);
  const written = text.replace(/[&<>'"]/g, (character) => HTML[character]);
  countText(written.length - text.length);
  return written;
}

const HTML: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;" };
