/** Jinja's tests: what may follow `is`. */
import { Unsupported } from "./limits.ts";
import { operate } from "./operators.ts";
import { toText } from "./print.ts";
import { isCallable } from "./runtime.ts";
import { type Builtin, define } from "./signature.ts";
import { KINDS } from "./text.ts";
import { contains, equals, inOrder, type Order } from "./comparison.ts";
import {
  Dict,
  Float,
  iteratorOf,
  lengthOf,
  Markup,
  numberOf,
  Range,
  Tuple,
  Undefined,
  type Value,
} from "./values.ts";

const is = (test: (value: Value) => boolean) => define("", test);
const ordered = (order: Order) => define("other /", (value, other) => inOrder(value, other!, order));
const same = define("other /", (value, other) => equals(value, other!));
const different = define("other /", (value, other) => !equals(value, other!));
const isInteger = (value: Value) => typeof value === "number" || typeof value === "bigint";

/** The tests that look at a value alone. */
export const VALUE_TESTS: Record<string, Builtin> = {
  odd: is((value) => equals(operate(value, "%", 2), 1)),
  even: is((value) => equals(operate(value, "%", 2), 0)),
  divisibleby: define("num", (value, by) => equals(operate(value, "%", by!), 0)),
  defined: is((value) => !(value instanceof Undefined)),
  undefined: is((value) => value instanceof Undefined),
  none: is((value) => value === null),
  boolean: is((value) => typeof value === "boolean"),
  false: is((value) => value === false),
  true: is((value) => value === true),
  integer: is(isInteger),
  float: is((value) => value instanceof Float),
  lower: is((value) => KINDS.islower(toText(value))),
  upper: is((value) => KINDS.isupper(toText(value))),
  string: is((value) => typeof value === "string" || value instanceof Markup),
  mapping: is((value) => value instanceof Dict),
  number: is((value) => numberOf(value) !== undefined),
  sequence: is((value) =>
    lengthOf(value) !== undefined &&
    (Array.isArray(value) || typeof value === "string" ||
      [Dict, Tuple, Undefined, Range, Markup].some((type) => value instanceof type))
  ),
  sameas: define("other", (value, other) => isSame(value, other!)),
  iterable: is((value) => value instanceof Markup || iteratorOf(value) !== undefined),
  callable: is(isCallable),
  escaped: is((value) => value instanceof Markup),
  in: define("seq", (value, container) => contains(container!, value)),
  "==": same,
  eq: same,
  equalto: same,
  "!=": different,
  ne: different,
  ">": ordered(">"),
  gt: ordered(">"),
  greaterthan: ordered(">"),
  ge: ordered(">="),
  ">=": ordered(">="),
  "<": ordered("<"),
  lt: ordered("<"),
  lessthan: ordered("<"),
  "<=": ordered("<="),
  le: ordered("<="),
};

/** `value is other` in Python, which is not told for equal texts and numbers: they may be one object or two. */
function isSame(value: Value, other: Value): boolean {
  const isUncertain = typeof value === "string" || isInteger(value) || value instanceof Float ||
    value instanceof Tuple || value instanceof Undefined;
  if (!isUncertain || typeof value !== typeof other || !equals(value, other)) return value === other;
  if (typeof value === "number" && value >= -5 && value <= 256) return true;
  throw new Unsupported("the test sameas between equal texts, numbers or tuples");
}
