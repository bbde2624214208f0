/** Jinja's filters that make or take numbers. */
import { TemplateError } from "./limits.ts";
import { parseFloatText, parseInteger, round, truncate } from "./numbers.ts";
import { integerOf, operate } from "./operators.ts";
import { argumentError, type Builtin, define } from "./signature.ts";
import { Float, Markup, numberOf, typeError, typeName, Undefined, type Value } from "./values.ts";

export const NUMBER_FILTERS: Record<string, Builtin> = {
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
};

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
