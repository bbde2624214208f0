/** Jinja's filters that make or take text. */
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { percent } from "./percent.ts";
import { fixed } from "./float_text.ts";
import { parseFloatText, truncate } from "./numbers.ts";
import { integerOf, slice } from "./operators.ts";
import { escapeHtml, repr, toText } from "./print.ts";
import { type Builtin, define, flag } from "./signature.ts";
import { pointCount, split, splitLines, strip, WHITE } from "./text.ts";
import { center, replace, TEXT_METHODS, textArgument } from "./text_methods.ts";
import { urlize } from "./urlize.ts";
import {
  Dict,
  isTrue,
  iterate,
  iteratorOf,
  type Keywords,
  lengthOf,
  Markup,
  NO_KEYWORDS,
  numberOf,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";
import { wrap } from "./text_wrap.ts";

/**
 * A filter's value as text: markupsafe's soft_str(). What is marked as HTML keeps its mark in Python, which is not
 * done here.
 */
function softText(value: Value): string {
  if (value instanceof Markup) throw new Unsupported("this filter of text that is marked as HTML");
  return toText(value);
}

const method = (name: string) => define("", (value) => TEXT_METHODS[name](softText(value), [], NO_KEYWORDS));

/** What Python would call a text's method on. */
function ownText(value: Value, use: string): string {
  if (value instanceof Undefined) value.fail();
  if (value instanceof Markup) throw new Unsupported(`${use} of text that is marked as HTML`);
  if (typeof value !== "string") throw typeError(`${use}: expected text, found ${typeName(value)}`);
  return value;
}

const escape = define(
  "/",
  (value) => value instanceof Markup ? value : new Markup(escapeHtml(toText(value))),
);

const BEGINNING_OF_WORD = new RegExp(`[-${WHITE}({\\[<]+|[^-${WHITE}({\\[<]+`, "g");

export const TEXT_FILTERS: Record<string, Builtin> = {
  capitalize: method("capitalize"),
  lower: method("lower"),
  upper: method("upper"),
  string: define("/", (value) => value instanceof Markup ? value : toText(value)),
  safe: define("", (value) => value instanceof Markup ? value : new Markup(toText(value))),
  escape,
  e: escape,
  forceescape: define("", (value) => new Markup(escapeHtml(toText(value)))),
  center: define("width?", (value, width = 80) => center(softText(value), integerOf(width))),
  trim: define(
    "chars?",
    (value, chars = null) => strip(softText(value), chars === null ? undefined : textArgument(chars)),
  ),
  title: define("", (value) => {
    const text = softText(value);
    countText(text.length);
    return (text.match(BEGINNING_OF_WORD) ?? []).map((word) => {
      const first = String.fromCodePoint(word.codePointAt(0)!);
      return first.toUpperCase() + word.slice(first.length).toLowerCase();
    }).join("");
  }),
  replace: define(
    "old new count?",
    (value, old, by, count = null) =>
      replace(toText(value), toText(old!), toText(by!), count === null ? -1 : integerOf(count)),
  ),
  format: (value: Value, args: readonly Value[], keywords: Keywords) => {
    if (args.length > 0 && keywords.size > 0) {
      throw new TemplateError(
        "FilterArgumentError",
        "can't handle positional and keyword arguments at the same time",
      );
    }
    return percent(softText(value), keywords.size > 0 ? Dict.from(keywords) : new Tuple(args));
  },
  indent: define("width? first? blank?", (value, width = 4, first, blank) => {
    const indention = typeof width === "string" ? width : " ".repeat(checkedWidth(width));
    const text = ownText(value, "indent");
    const lines = splitLines(`${text}\n`);
    countText(text.length + indention.length * lines.length);
    const indented = lines.map((line, i) => i > 0 && (line !== "" || flag(blank)) ? indention + line : line);
    return (flag(first) ? indention : "") + indented.join("\n");
  }),
  truncate: define(
    "length? killwords? end? leeway?",
    (value, limit = 255, kills, end = "...", leeway = null) => {
      const most = integerOf(limit);
      const tail = textArgument(end);
      const spare = leeway === null ? 5 : integerOf(leeway);
      if (most < pointCount(tail) || spare < 0) {
        throw new TemplateError("AssertionError", `expected length >= ${pointCount(tail)}, got ${most}`);
      }
      const length = lengthOf(value);
      if (length === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
      if (length <= most + spare) return value;
      const text = ownText(value, "truncate");
      const kept = slice(text, null, most - pointCount(tail), null) as string;
      return (flag(kills) ? kept : split(kept, " ", 1, true)[0]) + tail;
    },
  ),
  wordcount: define("", (value) => (softText(value).match(/[\p{L}\p{N}_]+/gu) ?? []).length),
  wordwrap: define(
    "width? break_long_words? wrapstring? break_on_hyphens?",
    (value, width = 79, breaksWords = true, by = null, breaksHyphens = true) => {
      const separator = by === null ? "\n" : textArgument(by);
      const lines = splitLines(ownText(value, "wordwrap"));
      return lines.map((line) =>
        wrap(line, integerOf(width), isTrue(breaksWords), isTrue(breaksHyphens)).join(separator)
      ).join(separator);
    },
  ),
  striptags: define("", (value) => stripTags(toText(value))),
  urlencode: define("", (value) => {
    if (typeof value === "string" || !iteratorOf(value)) return quote(toText(value), false);
    const pairs = value instanceof Dict ? value.entries() : undefined;
    const written: string[] = [];
    const items = pairs ? pairs.map((pair) => new Tuple(pair))[Symbol.iterator]() : iterate(value);
    for (let next = items.next(); !next.done; next = items.next()) {
      const pair = iterate(next.value);
      const [key, item, end] = [pair.next(), pair.next(), pair.next()];
      if (key.done || item.done || !end.done) throw new TemplateError("ValueError", "expected pairs");
      written.push(`${quote(toText(key.value), true)}=${quote(toText(item.value), true)}`);
    }
    return written.join("&");
  }),
  urlize: define(
    "trim_url_limit? nofollow? target? rel? extra_schemes?",
    (value, limit, nofollow, target, rel, schemes) =>
      urlize(ownTextOrNumber(value), {
        limit: limit === undefined || limit === null ? undefined : integerOf(limit),
        rel: [...(rel ? toText(rel).split(/\s+/) : []), ...(flag(nofollow) ? ["nofollow"] : []), "noopener"],
        target: target === undefined || target === null ? undefined : toText(target),
        schemes: schemes === undefined || schemes === null ? [] : schemesOf(schemes),
      }),
  ),
  xmlattr: define("autospace?", (value, autospace = true) => {
    if (value instanceof Undefined) value.fail();
    if (!(value instanceof Dict)) {
      throw new TemplateError("AttributeError", `'${typeName(value)}' object has no attribute 'items'`);
    }
    const written = value.entries().flatMap(([key, item]) => {
      if (item === null || item instanceof Undefined) return [];
      if (/[\t-\r\x20/>=]/.test(textArgument(key))) {
        throw new TemplateError("ValueError", `Invalid character in attribute name: ${repr(key)}`);
      }
      return [
        `${escapeHtml(textArgument(key))}="${item instanceof Markup ? item.text : escapeHtml(toText(item))}"`,
      ];
    });
    return (isTrue(autospace) && written.length > 0 ? " " : "") + written.join(" ");
  }),
  pprint: define("", (value) => {
    const text = repr(value);
    // Python sorts the keys, and breaks what is longer than a line.
    if (value instanceof Markup || text.length > 78 || /\{.*:.*,/.test(text)) {
      throw new Unsupported("the filter pprint of a long value");
    }
    return text;
  }),
  filesizeformat: define("binary?", (value, binary) => {
    if (value instanceof Undefined) value.fail();
    const number = typeof value === "string" ? parseFloatText(value) : numberOf(value);
    if (number === undefined) throw typeError(`expected a number, found ${typeName(value)}`);
    return fileSize(Number(number), flag(binary));
  }),
};

function ownTextOrNumber(value: Value): string {
  if (value instanceof Markup) throw new Unsupported("urlize of text that is marked as HTML");
  return toText(value);
}

function schemesOf(value: Value): string[] {
  const schemes: string[] = [];
  const items = iterate(value);
  for (let next = items.next(); !next.done; next = items.next()) {
    const scheme = textArgument(next.value);
    if (!/^[\p{L}\p{N}_.+-]{2,}:\/{0,2}$/u.test(scheme)) {
      throw new TemplateError("FilterArgumentError", `${repr(scheme)} is not a valid URI scheme prefix.`);
    }
    schemes.push(scheme);
  }
  return schemes;
}

function checkedWidth(width: Value): number {
  const count = Math.max(0, integerOf(width));
  countText(count);
  return count;
}

function fileSize(bytes: number, isBinary: boolean): string {
  const base = isBinary ? 1024 : 1000;
  if (bytes === 1) return "1 Byte";
  if (bytes < base) return `${truncate(bytes)} Bytes`;
  if (!Number.isFinite(bytes)) throw new Unsupported("the filter filesizeformat of no finite number");
  const letters = isBinary ? "KMGTPEZY" : "kMGTPEZY";
  let i = 0;
  while (i < letters.length - 1 && bytes >= base ** (i + 2)) i++;
  return `${fixed(base * bytes / base ** (i + 2), 1)} ${letters[i]}${isBinary ? "iB" : "B"}`;
}

const UNQUOTED = /[A-Za-z0-9_.~-]/;

/** urllib's quote() of the text as UTF-8. */
function quote(text: string, forQuery: boolean): string {
  countText(3 * text.length);
  let quoted = "";
  for (const byte of new TextEncoder().encode(text)) {
    const character = String.fromCharCode(byte);
    if (UNQUOTED.test(character) || !forQuery && character === "/") quoted += character;
    else if (forQuery && character === " ") quoted += "+";
    else quoted += `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return quoted;
}

/** Markup.striptags(): without comments and tags, white space as single spaces, entities as their characters. */
function stripTags(text: string): string {
  countText(text.length);
  let kept = "";
  let at = 0;
  while (true) {
    const start = text.indexOf("<", at);
    if (start < 0) break;
    const isComment = text.startsWith("<!--", start);
    const end = isComment ? text.indexOf("-->", start + 4) : text.indexOf(">", start);
    if (end < 0) break;
    kept += text.slice(at, start);
    at = end + (isComment ? 3 : 1);
  }
  kept += text.slice(at);
  const words = split(kept, undefined, -1).join(" ");
  return words.replace(/&(?:#39|#34|amp|lt|gt|quot);|&#?[0-9a-zA-Z]+;?/g, (entity) => {
    const character =
      { "&#39;": "'", "&#34;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"' }[entity];
    if (character === undefined) throw new Unsupported(`the entity ${entity} in the filter striptags`);
    return character;
  });
}
