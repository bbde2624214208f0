/** Python's comparisons of values of any type: equality, order, sorting and membership. */
import { countList, countSteps, Unsupported } from "./limits.ts";
import { compareText } from "./text.ts";
import {
  Dict,
  Float,
  iteratorOf,
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

const textOf = (value: Value) =>
  typeof value === "string" ? value : value instanceof Markup ? value.text : undefined;

/** a == b. */
export function equals(a: Value, b: Value): boolean {
  if (typeof a === "string" && typeof b === "string") return a === b;
  countSteps(1);
  const [left, right] = [numberOf(a), numberOf(b)];
  // An int beyond 2^53 is a bigint, which JavaScript compares to a number exactly, by this operator alone.
  // deno-lint-ignore eqeqeq
  if (left !== undefined && right !== undefined) return left == right;
  if (a === b) return true;
  if (a === null || b === null || left !== undefined || right !== undefined) return false;
  if (Array.isArray(a)) return Array.isArray(b) && sameItems(a, b);
  if (a instanceof Tuple) return b instanceof Tuple && sameItems(a.items, b.items);
  if (a instanceof Undefined) return b instanceof Undefined;
  if (a instanceof Dict) {
    return b instanceof Dict && a.size === b.size && a.entries().every(([key, value]) => {
      const other = b.get(key);
      return other !== undefined && sameOrEqual(value, other);
    });
  }
  if (a instanceof Range && b instanceof Range) {
    return a.length === b.length &&
      (a.length === 0 || a.start === b.start && (a.length === 1 || a.step === b.step));
  }
  if (a instanceof View && b instanceof View) throw new Unsupported(`comparing ${a.type}`);
  const text = textOf(a);
  return text !== undefined && text === textOf(b);
}

const sameOrEqual = (a: Value, b: Value) => a === b || equals(a, b);

const sameItems = (a: readonly Value[], b: readonly Value[]) =>
  a.length === b.length && a.every((item, i) => sameOrEqual(item, b[i]));

export type Order = "<" | "<=" | ">" | ">=";

/** a < b and the like. */
export function inOrder(a: Value, b: Value, order: Order): boolean {
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== undefined && right !== undefined) {
    return order === "<"
      ? left < right
      : order === "<="
      ? left <= right
      : order === ">"
      ? left > right
      : left >= right;
  }
  const [first, second] = [textOf(a), textOf(b)];
  if (first !== undefined && second !== undefined) return holds(compareText(first, second), order);
  const bothLists = Array.isArray(a) && Array.isArray(b);
  if (bothLists || a instanceof Tuple && b instanceof Tuple) {
    const [x, y] = bothLists ? [a, b] : [(a as Tuple).items, (b as Tuple).items];
    const differing = x.findIndex((item, i) => i >= y.length || !sameOrEqual(item, y[i]));
    if (differing < 0 || differing >= y.length) return holds(x.length - y.length, order);
    return inOrder(x[differing], y[differing], order);
  }
  if (a instanceof Undefined) a.fail();
  if (b instanceof Undefined) b.fail();
  if (a instanceof View && b instanceof View) throw new Unsupported(`comparing ${a.type}`);
  throw typeError(`'${order}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
}

const holds = (sign: number, order: Order) =>
  order === "<" ? sign < 0 : order === "<=" ? sign <= 0 : order === ">" ? sign > 0 : sign >= 0;

/** sorted(items, key=keys, reverse=reverse). */
export function sorted(items: readonly Value[], keys: readonly Value[], reverse = false): Value[] {
  countList(2 * items.length);
  if (keys.some((key) => key instanceof Float && Number.isNaN(key.value))) {
    throw new Unsupported("sorting what is not a number (nan)");
  }
  const places = items.map((_, i) => i);
  const sign = reverse ? -1 : 1;
  places.sort((i, j) => {
    countSteps(1);
    return inOrder(keys[i], keys[j], "<") ? -sign : inOrder(keys[j], keys[i], "<") ? sign : 0;
  });
  return places.map((i) => items[i]);
}

/** item in container. */
export function contains(container: Value, item: Value): boolean {
  const text = textOf(container);
  if (text !== undefined) {
    const part = textOf(item);
    if (part === undefined) {
      throw typeError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    countSteps(text.length / 64);
    return text.includes(part);
  }
  if (container instanceof Dict) return container.has(item);
  if (container instanceof View && container.part === "keys") return container.of.has(item);
  const iterator = iteratorOf(container);
  if (!iterator) throw typeError(`argument of type '${typeName(container)}' is not iterable`);
  for (let next = iterator.next(); !next.done; next = iterator.next()) {
    if (sameOrEqual(next.value, item)) return true;
  }
  return false;
}
