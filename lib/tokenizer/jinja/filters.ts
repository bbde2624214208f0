/** Jinja's filters of values of any type, and the table of all. */
import { attributeAlone, attributeGetter } from "./attributes.ts";
import { countText, TemplateError, Unsupported } from "./limits.ts";
import { integerOf } from "./operators.ts";
import { type JsonStyle, toJson, toText } from "./print.ts";
import { argumentError, type Builtin, define, flag } from "./signature.ts";
import { VALUE_TESTS } from "./tests.ts";
import { TEXT_FILTERS } from "./text_filters.ts";
import {
  Dict,
  Generator,
  isTrue,
  iterate,
  keyOf,
  type Keywords,
  listOf,
  Tuple,
  typeError,
  Undefined,
  type Value,
} from "./values.ts";
import { SEQUENCE_FILTERS } from "./sequence_filters.ts";
import { NUMBER_FILTERS } from "./number_filters.ts";

function* mapped(items: Iterator<Value>, of: (item: Value) => Value): Iterator<Value> {
  for (let next = items.next(); !next.done; next = items.next()) yield of(next.value);
}

/** select, reject and their kin by an attribute. */
const chooser = (isKept: boolean, byAttribute: boolean): Builtin => (value, given, keywords) =>
  new Generator((function* () {
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
  new Generator((function* () {
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

export const otherwise = define(
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
  ...SEQUENCE_FILTERS,
  ...NUMBER_FILTERS,
  d: otherwise,
  default: otherwise,
  map,
  select: chooser(true, false),
  reject: chooser(false, false),
  selectattr: chooser(true, true),
  rejectattr: chooser(false, true),
  items: define("", (value) =>
    new Generator((function* () {
      if (value instanceof Undefined) return;
      if (!(value instanceof Dict)) throw typeError("Can only get item pairs from a mapping.");
      for (const pair of value.entries()) yield new Tuple(pair);
    })())),
  attr: define("name", (value, name) => {
    if (typeof name !== "string") throw typeError("attribute name must be string");
    return attributeAlone(value, name);
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
