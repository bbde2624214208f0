/** Python's values as a template sees them, and what the language does with all of them: truth, length, iteration. */
import { countList, countText, TemplateError, Unsupported } from "./limits.ts";
import { pointCount, points } from "./text.ts";

/**
 * A value: none is null, int a safe integer or a bigint beyond, str a string (without lone surrogates), list an array
 * that is never written to. All else is of a class below.
 */
export type Value = null | boolean | number | bigint | string | readonly Value[] | PythonObject;

/** Arguments by name. */
export type Keywords = ReadonlyMap<string, Value>;
export const NO_KEYWORDS: Keywords = new Map();

export abstract class PythonObject {
  /** Python's name of the type. */
  abstract get type(): string;
}

/** A float; plain numbers are ints. */
export class Float extends PythonObject {
  constructor(readonly value: number) {
    super();
  }
  get type(): string {
    return "float";
  }
}

export class Tuple extends PythonObject {
  /** @param names what a named tuple calls its items. */
  constructor(readonly items: readonly Value[], readonly names?: readonly string[]) {
    super();
    countList(items.length);
  }
  get type(): string {
    return "tuple";
  }
}

/** A str that says of itself that it is HTML, as the filters `safe` and `escape` make them. */
export class Markup extends PythonObject {
  constructor(readonly text: string) {
    super();
  }
  get type(): string {
    return "Markup";
  }
}

/** What a name, attribute or item that is not there gives: prints as nothing, raises when it is used. */
export class Undefined extends PythonObject {
  constructor(private readonly message: () => string, private readonly kind = "UndefinedError") {
    super();
  }
  get type(): string {
    return "Undefined";
  }
  fail(): never {
    throw new TemplateError(this.kind, this.message());
  }
}

export class Range extends PythonObject {
  readonly length: number;
  constructor(readonly start: number, readonly stop: number, readonly step: number) {
    super();
    this.length = Math.max(0, Math.ceil((stop - start) / step));
  }
  get type(): string {
    return "range";
  }
  at(index: number): number {
    return this.start + index * this.step;
  }
}

/** What is gone through once: generators and reversed lists. */
export class Generator extends PythonObject {
  constructor(readonly items: Iterator<Value>) {
    super();
  }
  get type(): string {
    return "generator";
  }
}

export class Namespace extends PythonObject {
  readonly values = new Map<string, Value>();
  get type(): string {
    return "Namespace";
  }
}

/** A function, method, class or macro. */
export class Callable extends PythonObject {
  /**
   * @param attributes what a template may ask of it; undefined where Python has some that are not known here.
   * @param shown its repr().
   */
  constructor(
    readonly run: (args: readonly Value[], keywords: Keywords) => Value,
    readonly attributes: Readonly<Record<string, Value>> | undefined = {},
    readonly shown?: string,
  ) {
    super();
  }
  get type(): string {
    return this.shown === undefined ? "function" : "Macro";
  }
}

/** An object with attributes that are worked out when asked for, such as `loop`. */
export abstract class Described extends PythonObject {
  /** undefined where there is no such attribute. */
  abstract attribute(name: string): Value | undefined;
}

type Key = string | number | bigint | null | PythonObject;

/** dict: keys in the order in which they were first set. */
export class Dict extends PythonObject {
  readonly #values = new Map<Key, Value>();
  /** Keys that are not their own normal form, such as True, which is 1. */
  #originals?: Map<Key, Value>;

  static from(entries: Iterable<readonly [Value, Value]>): Dict {
    const dict = new Dict();
    for (const [key, value] of entries) dict.set(key, value);
    return dict;
  }

  get type(): string {
    return "dict";
  }
  get size(): number {
    return this.#values.size;
  }
  get(key: Value): Value | undefined {
    return this.#values.get(keyOf(key));
  }
  has(key: Value): boolean {
    return this.#values.has(keyOf(key));
  }
  set(key: Value, value: Value): void {
    const normal = keyOf(key);
    countText(32);
    if (normal !== key && !this.#values.has(normal)) (this.#originals ??= new Map()).set(normal, key);
    this.#values.set(normal, value);
  }
  keys(): Value[] {
    const keys = [...this.#values.keys()];
    return this.#originals ? keys.map((key) => this.#originals!.get(key) ?? key as Value) : keys as Value[];
  }
  values(): Value[] {
    return [...this.#values.values()];
  }
  entries(): [Value, Value][] {
    const values = this.values();
    return this.keys().map((key, i) => [key, values[i]]);
  }
}

/** dict.keys(), dict.values() and dict.items(). */
export class View extends PythonObject {
  constructor(readonly of: Dict, readonly part: "keys" | "values" | "items") {
    super();
  }
  get type(): string {
    return `dict_${this.part}`;
  }
  list(): Value[] {
    countList(this.of.size);
    if (this.part === "items") return this.of.entries().map((pair) => new Tuple(pair));
    return this.part === "keys" ? this.of.keys() : this.of.values();
  }
}

/** The form in which keys are looked up: those that Python holds equal have the same. */
export function keyOf(value: Value): Key {
  // Tuples and undefined are written as texts that begin with NUL, so a text that begins so is marked too.
  if (typeof value === "string") return value.charCodeAt(0) === 0 ? `\0s${value}` : value;
  if (typeof value === "number" || typeof value === "bigint" || value === null) return value;
  if (typeof value === "boolean") return Number(value);
  if (value instanceof Float) {
    const number = value.value;
    if (Number.isNaN(number)) throw new Unsupported("a key that is not a number (nan)");
    return Number.isInteger(number) && !Number.isSafeInteger(number) ? BigInt(number) : number;
  }
  if (value instanceof Markup) return keyOf(value.text);
  if (value instanceof Undefined) return "\0u";
  if (value instanceof Tuple) {
    let text = "\0t";
    for (const item of value.items) {
      const key = keyOf(item);
      if (key instanceof PythonObject) throw new Unsupported(`a tuple with a ${key.type} as key`);
      const part = String(key);
      countText(part.length + 16);
      text += `${typeof key}${part.length}:${part}`;
    }
    return text;
  }
  if (Array.isArray(value) || value instanceof Dict || value instanceof View && value.part !== "values") {
    throw new TemplateError("TypeError", `unhashable type: '${typeName(value)}'`);
  }
  if (value instanceof Range) throw new Unsupported("a range as key");
  return value as PythonObject;
}

export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (typeof value === "string") return "str";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number" || typeof value === "bigint") return "int";
  return Array.isArray(value) ? "list" : (value as PythonObject).type;
}

export const typeError = (message: string): TemplateError => new TemplateError("TypeError", message);

export function isTrue(value: Value): boolean {
  if (typeof value === "string") return value.length > 0;
  if (value instanceof PythonObject) {
    if (value instanceof Float) return value.value !== 0;
    return lengthOf(value) !== 0;
  }
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

/** len(value), or undefined where it has none. */
export function lengthOf(value: Value): number | undefined {
  if (typeof value === "string") return pointCount(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof Undefined) return 0;
  if (value instanceof Range) return value.length;
  if (value instanceof View) return value.of.size;
  if (value instanceof Markup) return pointCount(value.text);
  if (value instanceof Described) {
    const length = value.attribute("__len__");
    if (length !== undefined) return length as number;
  }
  return undefined;
}

/** What `for` goes through; undefined for what it cannot. */
export function iteratorOf(value: Value): Iterator<Value> | undefined {
  if (Array.isArray(value)) return value[Symbol.iterator]();
  if (typeof value === "string") {
    countList(value.length);
    return points(value)[Symbol.iterator]();
  }
  if (value instanceof Generator) return value.items;
  if (value instanceof Tuple) return value.items[Symbol.iterator]();
  if (value instanceof Dict) return value.keys()[Symbol.iterator]();
  if (value instanceof View) return value.list()[Symbol.iterator]();
  if (value instanceof Undefined) return [][Symbol.iterator]();
  if (value instanceof Range) {
    return (function* () {
      for (let i = 0; i < value.length; i++) yield value.at(i);
    })();
  }
  if (value instanceof Markup || value instanceof Described && value.attribute("__iter__") !== undefined) {
    throw new Unsupported(`going through a ${value.type}`);
  }
  return undefined;
}

export function iterate(value: Value): Iterator<Value> {
  const iterator = iteratorOf(value);
  if (!iterator) throw typeError(`'${typeName(value)}' object is not iterable`);
  return iterator;
}

/** list(value). */
export function listOf(value: Value): readonly Value[] {
  if (Array.isArray(value)) return value;
  if (value instanceof Tuple) return value.items;
  const iterator = iterate(value);
  const list: Value[] = [];
  for (let next = iterator.next(); !next.done; next = iterator.next()) {
    if (list.length % 64 === 0) countList(64);
    list.push(next.value);
  }
  return list;
}

/** The number that an int, a bool or a float is. */
export function numberOf(value: Value): number | bigint | undefined {
  if (typeof value === "number" || typeof value === "bigint") return value;
  if (typeof value === "boolean") return Number(value);
  return value instanceof Float ? value.value : undefined;
}
