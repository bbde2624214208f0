/** Jinja's filters of values of any type, and the table of all. */
import { attributeAlone, getItem } from "./attributes.ts";
import { countList, countText, TemplateError, Unsupported } from "./limits.ts";
import { parseFloatText, parseInteger, round, truncate } from "./numbers.ts";
import { indexOf, operate } from "./operators.ts";
import { type JsonStyle, toJson, toText } from "./print.ts";
import { type Builtin, define } from "./signature.ts";
import { VALUE_TESTS } from "./tests.ts";
import { points } from "./text.ts";
import { TEXT_FILTERS } from "./text_filters.ts";
import { join } from "./text_methods.ts";
import {
  Dict,
  Float,
  Generator,
  isTrue,
  iterate,
  iteratorOf,
  keyOf,
  type Keywords,
  lengthOf,
  listOf,
  Markup,
  numberOf,
  Range,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";
import { equals, inOrder, sorted } from "./comparison.ts";

const argumentError = (message: string) => new TemplateError("FilterArgumentError", message);
const flag = (value: Value | undefined) => value !== undefined && isTrue(value);
const integerOf = (value: Value) =>
  indexOf(value, `'${typeName(value)}' object cannot be interpreted as an integer`);

/** Jinja's make_attrgetter: what `attribute="a.b.0"` takes of an item. */
function attributeGetter(attribute: Value | undefined, otherwise?: Value): (item: Value) => Value {
  const hasDefault = otherwise !== undefined && otherwise !== null;
  const parts: Value[] = attribute === undefined || attribute === null
    ? []
    : typeof attribute === "string"
    ? attribute.split(".").map((part) => /^\d+$/.test(part) ? Number(part) : part)
    : [attribute];
  return (item) => {
    for (const part of parts) {
      item = getItem(item, part);
      if (hasDefault && item instanceof Undefined) item = otherwise;
    }
    return item;
  };
}

const withoutCase = (value: Value): Value => typeof value === "string" ? value.toLowerCase() : value;

/** An attribute as it is compared: without its case, unless that counts. */
function keyGetter(attribute: Value | undefined, caseSensitive: Value | undefined, otherwise?: Value) {
  const get = attributeGetter(attribute, otherwise);
  return flag(caseSensitive) ? get : (item: Value) => withoutCase(get(item));
}

const lazily = (items: Iterator<Value>) => new Generator(items);

function* mapped(items: Iterator<Value>, of: (item: Value) => Value): Iterator<Value> {
  for (let next = items.next(); !next.done; next = items.next()) yield of(next.value);
}

/** select, reject and their kin by an attribute. */
const chooser = (isKept: boolean, byAttribute: boolean): Builtin => (value, given, keywords) =>
  lazily((function* () {
    if (!isTrue(value)) return;
    let args = given;
    let of = (item: Value) => item;
    if (byAttribute) {
      if (args.length === 0) throw argumentError("Missing parameter for attribute name");
      of = attributeGetter(args[0]);
      args = args.slice(1);
    }
    let test = isTrue;
    if (args.length > 0) {
      const [name, ...rest] = args;
      test = (item) => isTrue(testNamed(name)(item, rest, keywords));
    }
    const items = iterate(value);
    for (let next = items.next(); !next.done; next = items.next()) {
      if (test(of(next.value)) === isKept) yield next.value;
    }
  })());

function testNamed(name: Value): Builtin {
  if (typeof name === "string" && Object.hasOwn(TESTS, name)) return TESTS[name];
  throw new TemplateError("TemplateRuntimeError", `No test named '${toText(name)}'.`);
}

const map: Builtin = (value, args, keywords) =>
  lazily((function* () {
    if (!isTrue(value)) return;
    yield* mapped(iterate(value), mapping(args, keywords)) as globalThis.Generator<Value>;
  })());

function mapping(args: readonly Value[], keywords: Keywords): (item: Value) => Value {
  if (args.length === 0 && keywords.has("attribute")) {
    const other = [...keywords.keys()].find((name) => name !== "attribute" && name !== "default");
    if (other !== undefined) throw argumentError(`Unexpected keyword argument '${other}'`);
    return attributeGetter(keywords.get("attribute"), keywords.get("default"));
  }
  if (args.length === 0) throw argumentError("map requires a filter argument");
  const [name, ...rest] = args;
  if (typeof name !== "string" || !Object.hasOwn(FILTERS, name)) {
    throw new TemplateError("TemplateRuntimeError", `No filter named '${toText(name)}'.`);
  }
  return (item) => FILTERS[name](item, rest, keywords);
}

const extreme = (order: "<" | ">") =>
  define("case_sensitive? attribute?", (value, caseSensitive, attribute) => {
    const items = iterate(value);
    const first = items.next();
    if (first.done) return new Undefined(() => "No aggregated item, sequence was empty.");
    const key = keyGetter(attribute, caseSensitive);
    let best = first.value;
    let bestKey: Value | undefined;
    for (let next = items.next(); !next.done; next = items.next()) {
      bestKey ??= key(best);
      const other = key(next.value);
      if (inOrder(other, bestKey, order)) [best, bestKey] = [next.value, other];
    }
    return best;
  });

/** What reversed() goes through; undefined for what it cannot. */
function reversed(value: Value): Value[] | undefined {
  if (value instanceof Undefined) return [];
  const isKnown = Array.isArray(value) || value instanceof Tuple || value instanceof Dict ||
    value instanceof View ||
    value instanceof Range || typeof value === "string";
  return isKnown ? [...listOf(value)].reverse() : undefined;
}

const length = define("/", (value) => {
  const length = lengthOf(value);
  if (length === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
  return length;
});

const otherwise = define(
  "default_value? boolean?",
  (value, other = "", boolean) =>
    value instanceof Undefined || flag(boolean) && !isTrue(value) ? other : value,
);

/** Every test; two of them ask for names of filters and tests, as some filters do. */
export const TESTS: Record<string, Builtin> = {
  ...VALUE_TESTS,
  filter: define("", (name) => isNamed(FILTERS, name)),
  test: define("", (name) => isNamed(TESTS, name)),
};

function isNamed(table: Record<string, Builtin>, name: Value): boolean {
  // What can be no key raises.
  keyOf(name);
  return typeof name === "string" && Object.hasOwn(table, name);
}

export const FILTERS: Record<string, Builtin> = {
  ...TEXT_FILTERS,
  count: length,
  length,
  d: otherwise,
  default: otherwise,
  map,
  select: chooser(true, false),
  reject: chooser(false, false),
  selectattr: chooser(true, true),
  rejectattr: chooser(false, true),
  min: extreme("<"),
  max: extreme(">"),
  list: define("", (value) => {
    const list = listOf(value);
    if (list !== value) return list;
    countList(list.length);
    return [...list];
  }),
  items: define("", (value) =>
    lazily((function* () {
      if (value instanceof Undefined) return;
      if (!(value instanceof Dict)) throw typeError("Can only get item pairs from a mapping.");
      for (const pair of value.entries()) yield new Tuple(pair);
    })())),
  first: define("", (value) => {
    const { value: first, done } = iterate(value).next();
    return done ? new Undefined(() => "No first item, sequence was empty.") : first;
  }),
  last: define("", (value) => {
    const items = reversed(value);
    if (!items) throw typeError(`'${typeName(value)}' object is not reversible`);
    return items.length > 0 ? items[0] : new Undefined(() => "No last item, sequence was empty.");
  }),
  reverse: define("", (value) => {
    if (typeof value === "string") return points(value).reverse().join("");
    if (value instanceof Markup) throw new Unsupported("turning round text that is marked as HTML");
    const items = reversed(value);
    if (items) return lazily(items[Symbol.iterator]());
    if (!iteratorOf(value)) throw argumentError("argument must be iterable");
    return [...listOf(value)].reverse();
  }),
  join: define("d? attribute?", (value, separator = "", attribute) => {
    const get = attribute === undefined || attribute === null ? undefined : attributeGetter(attribute);
    return join(toText(separator), iterate(value), (item) => toText(get ? get(item) : item));
  }),
  sort: define("reverse? case_sensitive? attribute?", (value, reverse, caseSensitive, attribute) => {
    const getters = (typeof attribute === "string" ? attribute.split(",") : [attribute ?? null])
      .map((part) => keyGetter(part, caseSensitive));
    const items = listOf(value);
    return sorted(items, items.map((item) => getters.map((get) => get(item))), flag(reverse));
  }),
  dictsort: define("case_sensitive? by? reverse?", (value, caseSensitive, by = "key", reverse) => {
    const place = ["key", "value"].indexOf(toText(by));
    if (place < 0 || typeof by !== "string") {
      throw argumentError('You can only sort by either "key" or "value"');
    }
    if (value instanceof Undefined) value.fail();
    if (!(value instanceof Dict)) {
      throw new TemplateError("AttributeError", `'${typeName(value)}' object has no attribute 'items'`);
    }
    const pairs = value.entries();
    const keys = pairs.map((pair) => flag(caseSensitive) ? pair[place] : withoutCase(pair[place]));
    return sorted(pairs.map((pair) => new Tuple(pair)), keys, flag(reverse));
  }),
  unique: define("case_sensitive? attribute?", (value, caseSensitive, attribute) =>
    lazily((function* () {
      const key = keyGetter(attribute, caseSensitive);
      const seen = new Set();
      const items = iterate(value);
      for (let next = items.next(); !next.done; next = items.next()) {
        const found = keyOf(key(next.value));
        if (seen.has(found)) continue;
        countText(64);
        seen.add(found);
        yield next.value;
      }
    })())),
  groupby: define("attribute default? case_sensitive?", (value, attribute, other, caseSensitive) => {
    const key = keyGetter(attribute, caseSensitive, other);
    const items = listOf(value);
    const groups: { key: Value; items: Value[] }[] = [];
    for (const item of sorted(items, items.map(key))) {
      const found = key(item);
      const last = groups.at(-1);
      if (last && equals(last.key, found)) last.items.push(item);
      else groups.push({ key: found, items: [item] });
    }
    const shown = attributeGetter(attribute, other);
    return groups.map(({ key, items }) =>
      new Tuple([flag(caseSensitive) ? key : shown(items[0]), items], ["grouper", "list"])
    );
  }),
  batch: define("linecount fill_with?", (value, count, fill = null) =>
    lazily((function* () {
      const items = iterate(value);
      let row: Value[] = [];
      for (let next = items.next(); !next.done; next = items.next()) {
        if (equals(row.length, count!)) {
          yield row;
          row = [];
        }
        countList(1);
        row.push(next.value);
      }
      if (row.length === 0) return;
      if (fill !== null && inOrder(row.length, count!, "<")) {
        const missing = integerOf(count!) - row.length;
        countList(missing);
        row = [...row, ...Array<Value>(missing).fill(fill)];
      }
      yield row;
    })())),
  slice: define("slices fill_with?", (value, slices, fill = null) =>
    lazily((function* () {
      const items = listOf(value);
      const count = integerOf(slices!);
      if (count === 0) throw new TemplateError("ZeroDivisionError", "integer division or modulo by zero");
      const each = Math.floor(items.length / count);
      const more = items.length - each * count;
      let start = 0;
      for (let i = 0; i < count; i++) {
        const end = start + each + (i < more ? 1 : 0);
        countList(end - start + 1);
        const part = items.slice(start, end);
        yield fill !== null && i >= more ? [...part, fill] : part;
        start = end;
      }
    })())),
  sum: define("attribute? start?", (value, attribute, start = 0) => {
    const get = attribute === undefined || attribute === null
      ? (item: Value) => item
      : attributeGetter(attribute);
    if (typeof start === "string") throw typeError("sum() can't sum strings [use ''.join(seq) instead]");
    const items = iterate(value);
    let sum: Value = start;
    for (let next = items.next(); !next.done; next = items.next()) sum = operate(sum, "+", get(next.value));
    return sum;
  }),
  attr: define("name", (value, name) => {
    if (typeof name !== "string") throw typeError("attribute name must be string");
    return attributeAlone(value, name);
  }),
  abs: define("/", (value) => {
    const number = numberOf(value);
    if (number === undefined) throw typeError(`bad operand type for abs(): '${typeName(value)}'`);
    if (value instanceof Float) return new Float(Math.abs(value.value));
    return number < 0 ? -number : number;
  }),
  round: define("precision? method?", (value, precision = 0, method = "common") => {
    if (method !== "common" && method !== "ceil" && method !== "floor") {
      throw argumentError("method must be common, ceil or floor");
    }
    if (method === "common") return round(value, integerOf(precision));
    const unit = operate(10, "**", precision);
    const scaled = operate(value, "*", unit);
    if (value instanceof Undefined) value.fail();
    const number = numberOf(scaled);
    if (number === undefined) throw typeError(`must be real number, not ${typeName(scaled)}`);
    const whole = scaled instanceof Float ? truncate(Math[method](scaled.value)) : number;
    return operate(whole, "/", unit);
  }),
  int: define("default? base?", (value, other = 0, base = 10) => toInteger(value, integerOf(base)) ?? other),
  float: define("default?", (value, other = new Float(0)) => {
    const float = toFloat(value);
    return float === undefined ? other : new Float(float);
  }),
  tojson: define(
    "ensure_ascii? indent? separators? sort_keys?",
    (value, ascii, indent = null, pair = null, sort) => {
      const style: JsonStyle = {
        ensureAscii: flag(ascii),
        indent: indentation(indent),
        itemSeparator: indent === null ? ", " : ",",
        keySeparator: ": ",
        sortKeys: flag(sort),
      };
      if (pair !== null) {
        const [item, key, ...more] = listOf(pair);
        if (typeof item !== "string" || typeof key !== "string" || more.length > 0) {
          throw typeError("expected separators as two texts");
        }
        Object.assign(style, { itemSeparator: item, keySeparator: key });
      }
      return toJson(value, style);
    },
  ),
  random: () => {
    throw new Unsupported("the filter random, whose text nobody can foresee,");
  },
};

function indentation(indent: Value): string | undefined {
  if (indent === null || typeof indent === "string") return indent ?? undefined;
  const width = Math.max(0, integerOf(indent));
  countText(width);
  return " ".repeat(width);
}

/** int(value), or what the filter falls back on: the int of a float; undefined where there is neither. */
function toInteger(value: Value, base: number): Value | undefined {
  if (value instanceof Undefined) value.fail();
  const text = typeof value === "string" ? value : value instanceof Markup ? value.text : undefined;
  const number = numberOf(value);
  try {
    if (value instanceof Float) return truncate(value.value);
    if (number !== undefined) return number;
    const whole = text === undefined ? undefined : parseInteger(text, base);
    if (whole !== undefined) return whole;
    const float = text === undefined ? undefined : parseFloatText(text);
    return float === undefined ? undefined : truncate(float);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    // Of a float that is infinite, Python's second try raises what is not caught.
    return undefined;
  }
}

function toFloat(value: Value): number | undefined {
  if (value instanceof Undefined) value.fail();
  if (typeof value === "string" || value instanceof Markup) {
    return parseFloatText(typeof value === "string" ? value : value.text);
  }
  const number = numberOf(value);
  if (number === undefined) return undefined;
  const float = Number(number);
  if (!Number.isFinite(float) && typeof number === "bigint") {
    throw new TemplateError("OverflowError", "int too large to convert to float");
  }
  return float;
}
