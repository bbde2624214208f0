/** Rows' values as a template sees them. */
import { UserError } from "../../errors.ts";
import { isObject, MOST_LEVELS, show } from "../../text/json.ts";
import { countList } from "./limits.ts";
import { integer } from "./numbers.ts";
import { Dict, Float, PythonObject, type Value } from "./values.ts";

/**
 * What Python would have read: a number without a fraction is an int, as JavaScript does not tell 1 from 1.0, but for
 * a `Number` object, which says that it is a float. `where` names the value in a message.
 *
 * @throws {UserError} for what is no value of JSON, and for a number beyond 2^53, whose digits are lost.
 */
export function toPython(value: unknown, where: string, level = 0): Value {
  if (typeof value === "string" || value === null || typeof value === "boolean") return value;
  if (level > MOST_LEVELS) {
    throw new UserError(`${where}: more than ${MOST_LEVELS} levels of lists and objects`);
  }
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return value === 0 ? 0 : value;
    if (!Number.isInteger(value)) return new Float(value);
    throw new UserError(
      `${where}: the number ${value} is beyond 2^53, so that its digits are not known: write it as text`,
    );
  }
  if (typeof value === "bigint") return integer(value);
  // As `parseJson` marks it.
  if (value instanceof Number) return new Float(value.valueOf());
  if (Array.isArray(value)) {
    countList(value.length);
    return value.map((item) => toPython(item, where, level + 1));
  }
  if (value instanceof PythonObject) return value as Value;
  const isPlain = isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value));
  if (!isPlain) {
    throw new UserError(`${where}: a chat template has no use for ${show(value)}, which is no value of JSON`);
  }
  const dict = new Dict();
  for (const key of Object.keys(value)) {
    if (value[key] !== undefined) dict.set(key, toPython(value[key], where, level + 1));
  }
  return dict;
}
