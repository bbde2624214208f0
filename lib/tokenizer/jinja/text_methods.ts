/** The methods of str. */
import { countList, countSteps, countText, TemplateError, Unsupported } from "./limits.ts";
import { indexOf, slice } from "./operators.ts";
import { type Builtin, define } from "./signature.ts";
import {
  capitalize,
  casefold,
  KINDS,
  pointCount,
  points,
  split,
  splitLines,
  strip,
  swapcase,
  title,
} from "./text.ts";
import { isTrue, iterate, Tuple, typeError, typeName, type Value } from "./values.ts";

const valueError = (message: string) => new TemplateError("ValueError", message);

const NO_INTEGER = "an integer is required";
const integerOf = (value: Value | undefined, otherwise: number): number =>
  value === undefined ? otherwise : indexOf(value, NO_INTEGER);

/** An argument that must be text. */
export function textArgument(value: Value | undefined): string {
  if (typeof value !== "string") throw typeError(`expected str, got ${typeName(value ?? null)}`);
  return value;
}

const textOrNone = (value: Value | undefined): string | undefined =>
  value === undefined || value === null ? undefined : textArgument(value);

/** What lies between two places of a text, and where it begins; undefined where they are beyond each other. */
function within(text: string, start?: Value, stop?: Value): { part: string; offset: number } | undefined {
  const length = pointCount(text);
  const place = (value: Value | undefined, otherwise: number) => {
    if (value === undefined || value === null) return otherwise;
    const index = indexOf(value, "slice indices must be integers or None or have an __index__ method");
    return Math.max(0, index < 0 ? index + length : index);
  };
  const [from, to] = [place(start, 0), Math.min(place(stop, length), length)];
  if (from > to) return undefined;
  if (from === 0 && to === length) return { part: text, offset: 0 };
  return { part: slice(text, from, to, null) as string, offset: from };
}

/** text.count(part). */
function countOf(text: string, part: string): number {
  if (part === "") return pointCount(text) + 1;
  countSteps(text.length / 64);
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  countSteps(count / 4);
  return count;
}

/** text.replace(old, by, most). */
export function replace(text: string, old: string, by: string, most = -1): string {
  const found = countOf(text, old);
  const count = most < 0 ? found : Math.min(found, most);
  if (count === 0) return text;
  countText(text.length + count * (by.length - old.length));
  if (old === "") {
    const letters = points(text);
    countList(2 * letters.length);
    return letters.map((letter, i) => i < count ? by + letter : letter).join("") +
      (count > letters.length ? by : "");
  }
  let result = "";
  let at = 0;
  for (let i = 0; i < count; i++) {
    const next = text.indexOf(old, at);
    result += text.slice(at, next) + by;
    at = next + old.length;
  }
  return result + text.slice(at);
}

function find(text: string, part: Value | undefined, start?: Value, stop?: Value, isLast = false): number {
  const found = within(text, start, stop);
  const sought = textArgument(part);
  if (!found) return -1;
  countSteps(found.part.length / 64);
  const at = isLast ? found.part.lastIndexOf(sought) : found.part.indexOf(sought);
  return at < 0 ? -1 : found.offset + pointCount(found.part.slice(0, at));
}

const finder = (isLast: boolean, raises: boolean) =>
  define<string>("part start? stop? /", (text, part, start, stop) => {
    const at = find(text, part, start, stop, isLast);
    if (at < 0 && raises) throw valueError("substring not found");
    return at;
  });

const affix = (has: (text: string, part: string) => boolean) =>
  define<string>("parts start? stop? /", (text, parts, start, stop) => {
    const found = within(text, start, stop);
    const all = parts instanceof Tuple ? parts.items : [parts!];
    if (!all.every((part) => typeof part === "string")) {
      throw typeError("first arg must be str or a tuple of str");
    }
    return found !== undefined && all.some((part) => has(found.part, part as string));
  });

const stripper = (ends: "both" | "left" | "right") =>
  define<string>("characters? /", (text, characters) => strip(text, textOrNone(characters), ends));

/** text.center() and the like: how many of the missing characters go to the left. */
const padder = (left: (missing: number, width: number) => number) =>
  define<string>("width fill? /", (text, width, fill) => {
    const filler = fill === undefined ? " " : textArgument(fill);
    if (pointCount(filler) !== 1) throw typeError("The fill character must be exactly one character long");
    return pad(text, integerOf(width, 0), filler, left);
  });

function pad(
  text: string,
  width: number,
  fill: string,
  left: (missing: number, width: number) => number,
): string {
  const missing = width - pointCount(text);
  if (missing <= 0) return text;
  countText(text.length + missing * fill.length);
  const before = left(missing, width);
  return fill.repeat(before) + text + fill.repeat(missing - before);
}

/** text.center(width): of an odd number, CPython puts the odd one left where the width is odd. */
export const center = (text: string, width: number): string => pad(text, width, " ", centered);
const centered = (missing: number, width: number) => Math.floor(missing / 2) + (missing & width & 1);

const part = (isLast: boolean) =>
  define<string>("separator /", (text, separator) => {
    const by = textArgument(separator);
    if (by === "") throw valueError("empty separator");
    const at = isLast ? text.lastIndexOf(by) : text.indexOf(by);
    if (at < 0) return new Tuple(isLast ? ["", "", text] : [text, "", ""]);
    return new Tuple([text.slice(0, at), by, text.slice(at + by.length)]);
  });

const splitter = (fromRight: boolean) =>
  define<string>(
    "sep? maxsplit?",
    (text, separator, most) => split(text, textOrNone(separator), integerOf(most, -1), fromRight),
  );

/** A method that makes a text of a text's characters, for which some take them apart. */
const made = (make: (text: string) => string, isApart = false) =>
  define<string>("/", (text) => {
    countText((isApart ? 8 : 1) * text.length);
    countSteps(text.length / 16);
    return make(text);
  });

/** separator.join(items). */
export function join(
  separator: string,
  items: Iterator<Value>,
  toText: (item: Value, place: number) => string,
): string {
  let text = "";
  let place = 0;
  for (let next = items.next(); !next.done; next = items.next()) {
    const item = toText(next.value, place);
    countText(item.length + separator.length);
    countSteps(1);
    text += place++ > 0 ? separator + item : item;
  }
  return text;
}

const unsupported = (name: string): Builtin => () => {
  throw new Unsupported(`the method ${name} of text`);
};

export const TEXT_METHODS: Record<string, Builtin> = {
  capitalize: made(capitalize),
  casefold: made(casefold, true),
  lower: made((text) => text.toLowerCase()),
  swapcase: made(swapcase, true),
  title: made(title, true),
  upper: made((text) => text.toUpperCase()),
  center: padder(centered),
  ljust: padder(() => 0),
  rjust: padder((missing) => missing),
  zfill: define<string>("width /", (text, width) => {
    const [, sign, digits] = /^([-+]?)([^]*)$/.exec(text)!;
    return sign + pad(digits, integerOf(width, 0) - sign.length, "0", (missing) => missing);
  }),
  count: define<string>("part start? stop? /", (text, sought, start, stop) => {
    const found = within(text, start, stop);
    return found ? countOf(found.part, textArgument(sought)) : 0;
  }),
  find: finder(false, false),
  index: finder(false, true),
  rfind: finder(true, false),
  rindex: finder(true, true),
  startswith: affix((text, part) => text.startsWith(part)),
  endswith: affix((text, part) => text.endsWith(part)),
  removeprefix: define<string>("prefix /", (text, prefix) => {
    const start = textArgument(prefix);
    return text.startsWith(start) ? text.slice(start.length) : text;
  }),
  removesuffix: define<string>("suffix /", (text, suffix) => {
    const end = textArgument(suffix);
    return end !== "" && text.endsWith(end) ? text.slice(0, -end.length) : text;
  }),
  replace: define<string>(
    "old new count? /",
    (text, old, by, count) => replace(text, textArgument(old), textArgument(by), integerOf(count, -1)),
  ),
  strip: stripper("both"),
  lstrip: stripper("left"),
  rstrip: stripper("right"),
  partition: part(false),
  rpartition: part(true),
  split: splitter(false),
  rsplit: splitter(true),
  splitlines: define<string>(
    "keepends?",
    (text, keepEnds) => splitLines(text, keepEnds !== undefined && isTrue(keepEnds)),
  ),
  expandtabs: define<string>("tabsize?", (text, size) => expandTabs(text, integerOf(size, 8))),
  join: define<string>("items /", (separator, items) =>
    join(separator, iterate(items!), (item, i) => {
      if (typeof item !== "string") {
        throw typeError(`sequence item ${i}: expected str instance, ${typeName(item)} found`);
      }
      return item;
    })),
  encode: unsupported("encode"),
  maketrans: unsupported("maketrans"),
  translate: unsupported("translate"),
  ...Object.fromEntries(
    Object.entries(KINDS).map(([name, is]) => [
      name,
      define<string>("/", (text) => {
        countSteps(text.length / 16);
        return is(text);
      }),
    ]),
  ),
};

function expandTabs(text: string, size: number): string {
  let [result, column] = ["", 0];
  for (const character of text) {
    if (character === "\t") {
      const spaces = size > 0 ? size - column % size : 0;
      countText(spaces);
      result += " ".repeat(spaces);
      column += spaces;
    } else {
      result += character;
      column = character === "\n" || character === "\r" ? 0 : column + 1;
    }
  }
  countText(text.length);
  return result;
}
