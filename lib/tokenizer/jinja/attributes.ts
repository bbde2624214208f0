/** What `value.name` and `value[item]` give in Jinja's immutable sandbox. */
import { formatText, type Lookup } from "./format.ts";
import { countList, TemplateError, Unsupported } from "./limits.ts";
import { indexOf } from "./operators.ts";
import { type Builtin, define } from "./signature.ts";
import { isSimple, points } from "./text.ts";
import { TEXT_METHODS } from "./text_methods.ts";
import {
  Callable,
  Described,
  Dict,
  Float,
  Generator,
  Markup,
  Namespace,
  numberOf,
  PythonObject,
  Range,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";
import { equals } from "./comparison.ts";

const notSupported = (what: string): Builtin => () => {
  throw new Unsupported(what);
};

const placeOf = define<readonly Value[]>("value start? stop? /", (items, value, start, stop) => {
  const place = (bound: Value | undefined, otherwise: number) => {
    if (bound === undefined) return otherwise;
    const index = indexOf(bound, "slice indices must be integers or have an __index__ method");
    return index < 0 ? Math.max(0, index + items.length) : index;
  };
  const [from, to] = [place(start, 0), Math.min(place(stop, items.length), items.length)];
  for (let i = from; i < to; i++) if (items[i] === value || equals(items[i], value!)) return i;
  throw new TemplateError("ValueError", "the value is not in the list");
});

const countOf = define<readonly Value[]>(
  "value /",
  (items, value) => items.filter((item) => item === value || equals(item, value!)).length,
);

const copied = (items: readonly Value[]) => {
  countList(items.length);
  return [...items];
};

const ofTuple = (method: Builtin): Builtin => (self, args, keywords) =>
  method((self as Tuple).items, args, keywords);
const ofRange = (method: Builtin): Builtin => (self, args, keywords) => {
  const range = self as Range;
  countList(range.length);
  return method(Array.from({ length: range.length }, (_, i) => range.at(i)), args, keywords);
};

/** What the sandbox lets through. */
const LOOKUP: Lookup = { attribute: getAttribute, item: getItem };

const METHODS: Record<string, Record<string, Builtin>> = {
  str: {
    ...TEXT_METHODS,
    format: (text, args, keywords) => formatText(text as string, args, keywords, LOOKUP),
    format_map: define<string>("mapping /", (text, mapping) => {
      if (!(mapping instanceof Dict)) throw new Unsupported("format_map() of what is no dict");
      const entries = mapping.entries().filter(([key]) => typeof key === "string");
      return formatText(text, [], new Map(entries as [string, Value][]), LOOKUP);
    }),
  },
  list: { index: placeOf, count: countOf, copy: define<readonly Value[]>("/", copied) },
  tuple: { index: ofTuple(placeOf), count: ofTuple(countOf) },
  range: { index: ofRange(placeOf), count: ofRange(countOf) },
  dict: {
    get: define<Dict>("key default? /", (dict, key, otherwise) => {
      const value = dict.get(key!);
      return value === undefined ? otherwise ?? null : value;
    }),
    keys: define<Dict>("/", (dict) => new View(dict, "keys")),
    values: define<Dict>("/", (dict) => new View(dict, "values")),
    items: define<Dict>("/", (dict) => new View(dict, "items")),
    copy: define<Dict>("/", (dict) => Dict.from(dict.entries())),
    fromkeys: define<Dict>("keys value? /", (_, keys, value) => {
      if (!Array.isArray(keys)) throw new Unsupported("fromkeys() of what is no list");
      return Dict.from(keys.map((key) => [key, value ?? null] as const));
    }),
  },
  float: {
    is_integer: define<Float>("/", ({ value }) => Number.isInteger(value)),
    conjugate: define<Float>("/", (float) => float),
    as_integer_ratio: notSupported("as_integer_ratio"),
    hex: notSupported("hex"),
    fromhex: notSupported("fromhex"),
  },
  int: {
    conjugate: define<number>("/", (number) => Number(number)),
    bit_length: define<number | bigint>(
      "/",
      (number) => number === 0 ? 0 : (number < 0 ? -number : number).toString(2).length,
    ),
    bit_count: define<number | bigint>(
      "/",
      (number) => (number < 0 ? -number : number).toString(2).replaceAll("0", "").length,
    ),
    as_integer_ratio: notSupported("as_integer_ratio"),
    to_bytes: notSupported("to_bytes"),
    from_bytes: notSupported("from_bytes"),
  },
  dict_keys: { isdisjoint: notSupported("isdisjoint") },
  dict_items: { isdisjoint: notSupported("isdisjoint") },
  generator: {
    send: notSupported("a generator's send"),
    throw: notSupported("a generator's throw"),
    close: notSupported("a generator's close"),
  },
};
METHODS.bool = METHODS.int;

/** Methods that would change a list or dict, which the sandbox hides. */
const CHANGES: Record<string, readonly string[]> = {
  list: ["append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"],
  dict: ["clear", "pop", "popitem", "setdefault", "update"],
};

/** Whether each value of a type has a method of that name, allowed or not. */
export const hasMethod = (type: string, name: string): boolean =>
  Object.hasOwn(METHODS[type] ?? {}, name) || (CHANGES[type]?.includes(name) ?? false);

/** Python's getattr() within the sandbox; undefined where there is no such attribute. */
function attributeOf(of: Value, name: string): Value | undefined {
  if (of instanceof Undefined) of.fail();
  const isPrivate = name.startsWith("_");
  if (of instanceof Namespace) {
    const value = of.values.get(name);
    return value !== undefined && isPrivate ? unsafe(of, name) : value;
  }
  if (isPrivate) {
    if (!/^__.*__$/.test(name)) return undefined;
    if (of instanceof Dict && of.has(name)) throw new Unsupported(`a key ${name} as attribute`);
    return unsafe(of, name);
  }
  const type = of instanceof Markup ? "str" : typeName(of);
  if (CHANGES[type]?.includes(name)) return unsafe(of, name);
  if (hasMethod(type, name)) {
    if (of instanceof Markup) throw new Unsupported(`the method ${name} of text that is marked as HTML`);
    const method = METHODS[type][name];
    return new Callable((args, keywords) => method(of, args, keywords));
  }
  if (of instanceof Described) return of.attribute(name);
  if (of instanceof Callable) {
    if (!of.attributes) throw new Unsupported(`the attribute ${name} of a class`);
    return Object.hasOwn(of.attributes, name) ? of.attributes[name] : undefined;
  }
  if (of instanceof Tuple && of.names?.includes(name)) return of.items[of.names.indexOf(name)];
  if (of instanceof Range && (name === "start" || name === "stop" || name === "step")) return of[name];
  if (of instanceof View && name === "mapping" || of instanceof Generator && name.startsWith("gi_")) {
    throw new Unsupported(`the attribute ${name}`);
  }
  const number = numberOf(of);
  if (number !== undefined) {
    if (name === "real" || name === "numerator" && !(of instanceof Float)) {
      return of instanceof Float ? of : number;
    }
    if (name === "imag") return of instanceof Float ? new Float(0) : 0;
    if (name === "denominator" && !(of instanceof Float)) return 1;
  }
  return undefined;
}

const unsafe = (of: Value, name: string) =>
  new Undefined(
    () => `access to attribute '${name}' of '${typeName(of)}' object is unsafe.`,
    "SecurityError",
  );

function noSuch(of: Value, item: Value): Undefined {
  return new Undefined(() => {
    const type = of === null ? "None" : `${typeName(of)} object`;
    return typeof item === "string" ? `'${type}' has no attribute '${item}'` : `${type} has no such element`;
  });
}

/** of.name: an attribute, or else an item. */
export function getAttribute(of: Value, name: string): Value {
  const attribute = attributeOf(of, name);
  if (attribute !== undefined) return attribute;
  const value = of instanceof Dict ? of.get(name) : undefined;
  return value === undefined ? noSuch(of, name) : value;
}

/** The filter attr: an attribute alone. */
export function attributeAlone(of: Value, name: string): Value {
  const attribute = attributeOf(of, name);
  return attribute === undefined ? noSuch(of, name) : attribute;
}

/** of[item]: an item, or else an attribute. */
export function getItem(of: Value, item: Value): Value {
  const value = itemOf(of, item);
  if (value !== undefined) return value;
  const name = item instanceof Markup ? item.text : item;
  const attribute = typeof name === "string" ? attributeOf(of, name) : undefined;
  return attribute === undefined ? noSuch(of, item) : attribute;
}

function itemOf(of: Value, item: Value): Value | undefined {
  if (of instanceof Dict) {
    if (typeof item === "string") return of.get(item);
    try {
      return of.get(item);
    } catch (error) {
      // No key can be like that.
      if (error instanceof TemplateError) return undefined;
      throw error;
    }
  }
  if (of instanceof Undefined) of.fail();
  const number = numberOf(item);
  if (number === undefined || item instanceof PythonObject) return undefined;
  const at = (length: number) => number < 0 ? length + Number(number) : Number(number);
  if (Array.isArray(of)) return of[at(of.length)];
  if (of instanceof Tuple) return of.items[at(of.items.length)];
  if (of instanceof Range) {
    const index = at(of.length);
    return index >= 0 && index < of.length ? of.at(index) : undefined;
  }
  if (of instanceof Markup) throw new Unsupported("a character of text that is marked as HTML");
  if (typeof of !== "string") return undefined;
  if (isSimple(of)) return of[at(of.length)];
  countList(of.length / 4);
  const letters = points(of);
  return letters[at(letters.length)];
}

/** Jinja's make_attrgetter: what `attribute="a.b.0"` takes of an item. */
export function attributeGetter(attribute: Value | undefined, otherwise?: Value): (item: Value) => Value {
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
