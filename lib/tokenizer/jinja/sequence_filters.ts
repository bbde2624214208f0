/** Jinja's filters of what can be gone through. */
import { attributeGetter } from "./attributes.ts";
import { countList, countText, TemplateError, Unsupported } from "./limits.ts";
import { integerOf, operate } from "./operators.ts";
import { toText } from "./print.ts";
import { argumentError, type Builtin, define, flag } from "./signature.ts";
import { points } from "./text.ts";
import { join } from "./text_methods.ts";
import {
  Dict,
  Generator,
  iterate,
  iteratorOf,
  keyOf,
  lengthOf,
  listOf,
  Markup,
  Range,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";
import { equals, inOrder, sorted } from "./comparison.ts";

const withoutCase = (value: Value): Value => typeof value === "string" ? value.toLowerCase() : value;

/** An attribute as it is compared: without its case, unless that counts. */
function keyGetter(attribute: Value | undefined, caseSensitive: Value | undefined, otherwise?: Value) {
  const get = attributeGetter(attribute, otherwise);
  return flag(caseSensitive) ? get : (item: Value) => withoutCase(get(item));
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

export const SEQUENCE_FILTERS: Record<string, Builtin> = {
  count: length,
  length,
  min: extreme("<"),
  max: extreme(">"),
  list: define("", (value) => {
    const list = listOf(value);
    if (list !== value) return list;
    countList(list.length);
    return [...list];
  }),
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
    if (items) return new Generator(items[Symbol.iterator]());
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
  unique: define(
    "case_sensitive? attribute?",
    (value, caseSensitive, attribute) =>
      new Generator((function* () {
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
      })()),
  ),
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
    new Generator((function* () {
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
    new Generator((function* () {
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
};
