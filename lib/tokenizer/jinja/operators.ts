/** Python's operators between values of any type. */
import { countList, countText, TemplateError, Unsupported } from "./limits.ts";
import { calculate, type Operator } from "./numbers.ts";
import { percent } from "./percent.ts";
import { isSimple, points } from "./text.ts";
import {
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

/** a + b, and the like. */
export function operate(a: Value, operator: Operator, b: Value): Value {
  if (typeof a === "string" && typeof b === "string" && operator === "+") {
    countText(a.length + b.length);
    return a + b;
  }
  const number = calculate(a, operator, b);
  if (number !== undefined) return number;
  if (a instanceof Undefined) a.fail();
  if (a instanceof Markup || b instanceof Markup) {
    throw new Unsupported(`${operator} with text that is marked as HTML`);
  }
  if (operator === "%" && typeof a === "string") return percent(a, b);
  if (b instanceof Undefined) b.fail();
  if (operator === "+") {
    if (Array.isArray(a) && Array.isArray(b)) {
      countList(a.length + b.length);
      return [...a, ...b];
    }
    if (a instanceof Tuple && b instanceof Tuple) return new Tuple([...a.items, ...b.items]);
  }
  if (operator === "*") {
    const repeated = repeat(a, b) ?? repeat(b, a);
    if (repeated !== undefined) return repeated;
  }
  if (a instanceof View || b instanceof View) throw new Unsupported(`${operator} with the keys of a dict`);
  throw typeError(
    operator === "+" && typeof a === "string"
      ? `can only concatenate str (not "${typeName(b)}") to str`
      : `unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`,
  );
}

function repeat(value: Value, times: Value): Value | undefined {
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
  if (!items && typeof value !== "string") return undefined;
  const number = numberOf(times);
  if (number === undefined || typeof times === "object") {
    throw typeError(`can't multiply sequence by non-int of type '${typeName(times)}'`);
  }
  if (typeof number === "bigint") {
    throw new TemplateError("OverflowError", "cannot fit 'int' into an index-sized integer");
  }
  const count = Math.max(0, number);
  if (!items) {
    const text = value as string;
    countText(text.length * count);
    return text === "" ? "" : text.repeat(count);
  }
  countList(items.length * count);
  const repeated: Value[] = [];
  for (let i = 0; i < count && items.length > 0; i++) for (const item of items) repeated.push(item);
  return Array.isArray(value) ? repeated : new Tuple(repeated);
}

/** An int that Python takes as an index. */
export function indexOf(value: Value, what: string): number {
  const number = numberOf(value);
  if (number === undefined || typeof value === "object") throw typeError(what);
  // Beyond every text and list.
  return typeof number === "bigint" ? (number < 0n ? -(2 ** 53) : 2 ** 53) : number;
}

/** An int, as range() and the like take it. */
export const integerOf = (value: Value) =>
  indexOf(value, `'${typeName(value)}' object cannot be interpreted as an integer`);

/** of[start:stop:step]. */
export function slice(of: Value, start: Value, stop: Value, step: Value): Value {
  if (of instanceof Undefined) of.fail();
  if (of instanceof Markup) throw new Unsupported("a slice of text that is marked as HTML");
  const isText = typeof of === "string";
  const length = isText
    ? (isSimple(of) ? of.length : points(of).length)
    : Array.isArray(of)
    ? of.length
    : of instanceof Tuple
    ? of.items.length
    : of instanceof Range
    ? of.length
    : undefined;
  if (length === undefined) throw typeError(`'${typeName(of)}' object is not subscriptable by a slice`);
  const index = (value: Value) =>
    value === null
      ? undefined
      : indexOf(value, "slice indices must be integers or None or have an __index__ method");
  const by = index(step) ?? 1;
  if (by === 0) throw new TemplateError("ValueError", "slice step cannot be zero");
  const [least, most] = by > 0 ? [0, length] : [-1, length - 1];
  const within = (place: number | undefined, otherwise: number) => {
    if (place === undefined) return otherwise;
    return place < 0 ? Math.max(place + length, least) : Math.min(place, most);
  };
  const from = within(index(start), by > 0 ? least : most);
  const to = within(index(stop), by > 0 ? most : least);
  if (of instanceof Range) return new Range(of.at(from), of.at(to), of.step * by);
  if (isText && isSimple(of) && by === 1) {
    countText(Math.max(0, to - from));
    return of.slice(from, Math.max(from, to));
  }
  countList(isText ? length : Math.max(0, Math.ceil((to - from) / by)));
  const items = isText ? points(of) : Array.isArray(of) ? of : (of as Tuple).items;
  const taken: Value[] = [];
  for (let i = from; by > 0 ? i < to : i > to; i += by) taken.push(items[i]);
  return isText ? taken.join("") : Array.isArray(of) ? taken : new Tuple(taken);
}
