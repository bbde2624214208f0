/** Python's numbers: ints of any size beside floats, and how they are read from text. */
import { countSteps, TemplateError, Unsupported } from "./limits.ts";
import { strip } from "./text.ts";
import { Float, numberOf, typeError, typeName, Undefined, type Value } from "./values.ts";
import { reprFloat, roundedDigits } from "./float_text.ts";

/** Digits of an int beyond which Python refuses to write it. */
const MOST_DIGITS = 4300;
const TOO_LARGE = 10n ** BigInt(MOST_DIGITS);

/** An int in its one form: a number where it is safe, a bigint beyond. */
export function integer(value: number | bigint): number | bigint {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : integer(BigInt(value));
  if (value >= -0x1fffffffffffffn && value <= 0x1fffffffffffffn) return Number(value);
  if (value > TOO_LARGE || value < -TOO_LARGE) {
    throw new Unsupported(`an int of more than ${MOST_DIGITS} digits`);
  }
  return value;
}

export type Operator = "+" | "-" | "*" | "/" | "//" | "%" | "**";

/** The operators between two numbers; undefined where one is none. */
export function calculate(a: Value, operator: Operator, b: Value): Value | undefined {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x === undefined || y === undefined) return undefined;
  if (a instanceof Float || b instanceof Float) return new Float(ofFloats(toFloat(x), operator, toFloat(y)));
  if (operator === "/") {
    // JavaScript rounds the quotient of two safe integers as Python does.
    if (typeof x === "bigint" || typeof y === "bigint") throw new Unsupported("dividing ints beyond 2^53");
    if (y === 0) throw new TemplateError("ZeroDivisionError", "division by zero");
    return new Float(x / y);
  }
  return ofInts(x, operator, y);
}

function ofInts(x: number | bigint, operator: Operator, y: number | bigint): Value {
  if (typeof x === "number" && typeof y === "number") {
    const fast = operator === "+" ? x + y : operator === "-" ? x - y : operator === "*" ? x * y : undefined;
    if (fast !== undefined && Number.isSafeInteger(fast)) return fast === 0 ? 0 : fast;
  }
  const [a, b] = [BigInt(x), BigInt(y)];
  countSteps(16);
  switch (operator) {
    case "+":
      return integer(a + b);
    case "-":
      return integer(a - b);
    case "*":
      return integer(a * b);
    case "**": {
      if (b < 0n) {
        if (a === 0n) {
          throw new TemplateError("ZeroDivisionError", "0.0 cannot be raised to a negative power");
        }
        return new Float(ofFloats(toFloat(x), "**", toFloat(y)));
      }
      if (a > 1n || a < -1n) {
        // No power is worked out that is too large to be written.
        if (b * BigInt(a.toString(2).length - 1) > 4n * BigInt(MOST_DIGITS)) {
          throw new Unsupported(`an int of more than ${MOST_DIGITS} digits`);
        }
      } else if (b > 1n) return integer(a * a * (b % 2n === 0n ? 1n : a));
      return integer(a ** b);
    }
    default: {
      if (b === 0n) {
        throw new TemplateError("ZeroDivisionError", "integer division or modulo by zero");
      }
      const isLess = a % b !== 0n && (a < 0n) !== (b < 0n);
      return integer(operator === "//" ? a / b - (isLess ? 1n : 0n) : a % b + (isLess ? b : 0n));
    }
  }
}

function ofFloats(x: number, operator: Operator, y: number): number {
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "**":
      return power(x, y);
  }
  if (y === 0) throw new TemplateError("ZeroDivisionError", "float division by zero");
  if (operator === "/") return x / y;
  // As CPython's float_divmod: the remainder has the divisor's sign, and what is floored is nearest to an integer.
  let rest = x % y;
  let quotient = (x - rest) / y;
  if (rest !== 0) {
    if (y < 0 !== rest < 0) {
      rest += y;
      quotient -= 1;
    }
  } else rest = withSign(0, y);
  if (operator === "%") return rest;
  if (quotient === 0) return withSign(0, x / y);
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

const withSign = (value: number, like: number) => like < 0 || Object.is(like, -0) ? -value : value;

/** x ** y where the result is exact: libraries differ in the last digit of others. */
function power(x: number, y: number): number {
  if (y === 0 || x === 1) return 1;
  if (y === 1) return x;
  const exponent = Math.abs(y);
  if (Number.isInteger(x) && Number.isInteger(y) && exponent <= 1100 && x !== 0) {
    const exact = Math.abs(x) === 2
      ? 2 ** exponent * (x < 0 && exponent % 2 === 1 ? -1 : 1)
      : Math.pow(x, exponent);
    const isExact = Math.abs(x) === 2 ? exponent < 1023 : Math.abs(exact) <= Number.MAX_SAFE_INTEGER;
    if (isExact && y > 0) return exact;
    if (isExact && Number.isInteger(Math.log2(Math.abs(exact)))) return 1 / exact;
  }
  throw new Unsupported(`${reprFloat(x)} ** ${reprFloat(y)}, a power of floats`);
}

function toFloat(value: number | bigint): number {
  if (typeof value === "number") return value;
  const float = Number(value);
  if (!Number.isFinite(float)) throw new TemplateError("OverflowError", "int too large to convert to float");
  return float;
}

/** -value or +value. */
export function signed(value: Value, operator: "-" | "+"): Value {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined) throw typeError(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  if (operator === "+") return value instanceof Float ? value : number;
  if (value instanceof Float) return new Float(-value.value);
  return typeof number === "bigint" ? integer(-number) : number === 0 ? 0 : -number;
}

/** round(value, places). */
export function round(value: Value, places: number): Value {
  const number = numberOf(value);
  if (number === undefined) {
    throw typeError(`type ${typeName(value)} doesn't define __round__ method`);
  }
  if (!(value instanceof Float)) {
    if (places >= 0) return number;
    const unit = 10n ** BigInt(Math.min(-places, MOST_DIGITS));
    const whole = BigInt(number);
    let [quotient, rest] = [whole / unit, whole % unit];
    if (rest < 0n) [quotient, rest] = [quotient - 1n, rest + unit];
    const isUp = 2n * rest > unit || 2n * rest === unit && quotient % 2n !== 0n;
    return integer((quotient + (isUp ? 1n : 0n)) * unit);
  }
  const float = value.value;
  if (!Number.isFinite(float) || float === 0 || places > 330) return value;
  const { digits, exponent } = roundedDigits(Math.abs(float), (exponent) => exponent + places);
  const rounded = Number(`0.${digits || "0"}e${exponent}`);
  if (!Number.isFinite(rounded)) {
    throw new TemplateError("OverflowError", "rounded value too large to represent");
  }
  return new Float(withSign(rounded, float));
}

/** int(value) of a float. */
export function truncate(value: number): number | bigint {
  if (Number.isNaN(value)) throw new TemplateError("ValueError", "cannot convert float NaN to integer");
  if (!Number.isFinite(value)) {
    throw new TemplateError("OverflowError", "cannot convert float infinity to integer");
  }
  const whole = Math.trunc(value);
  return whole === 0 ? 0 : integer(whole);
}

/** int(text, base); undefined where the text is none. */
export function parseInteger(text: string, base: number): number | bigint | undefined {
  const trimmed = trimmedNumber(text);
  const match = /^([+-]?)(0[xX]|0[oO]|0[bB])?(_?[0-9a-zA-Z]+(?:_[0-9a-zA-Z]+)*)$/.exec(trimmed);
  if (!match || base !== 0 && (base < 2 || base > 36)) return undefined;
  const [, sign, prefix = ""] = match;
  let digits = match[3];
  const named = { "0x": 16, "0o": 8, "0b": 2 }[prefix.toLowerCase()];
  if (named === undefined || base !== 0 && base !== named) {
    if (digits.startsWith("_")) return undefined;
    digits = prefix + digits;
    if (base === 0) {
      if (/^0[0_]*[1-9]/.test(digits)) return undefined;
      base = 10;
    }
  } else base = named;
  digits = digits.replaceAll("_", "").toLowerCase();
  if (digits.length > MOST_DIGITS) return undefined;
  let value = 0n;
  for (const digit of digits) {
    const number = parseInt(digit, 36);
    if (number >= base) return undefined;
    value = value * BigInt(base) + BigInt(number);
  }
  return integer(sign === "-" ? -value : value);
}

/** float(text); undefined where the text is none. */
export function parseFloatText(text: string): number | undefined {
  const trimmed = trimmedNumber(text).toLowerCase();
  if (/^[+-]?(?:inf|infinity)$/.test(trimmed)) return trimmed.startsWith("-") ? -Infinity : Infinity;
  if (/^[+-]?nan$/.test(trimmed)) return NaN;
  const digits = "\\d+(?:_\\d+)*";
  if (
    !new RegExp(`^[+-]?(?:${digits}(?:\\.(?:${digits})?)?|\\.${digits})(?:e[+-]?${digits})?$`).test(trimmed)
  ) {
    return undefined;
  }
  return Number(trimmed.replaceAll("_", ""));
}

function trimmedNumber(text: string): string {
  countSteps(text.length / 16);
  if (/\p{Nd}/u.test(text.replace(/[0-9]+/g, ""))) {
    throw new Unsupported("a number in other digits than 0 to 9");
  }
  return strip(text, undefined);
}
