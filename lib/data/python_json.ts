/** A number in JSON that JavaScript reads as another: 1.0 as 1, or one of more digits than it holds. */
const LOSES = /\d(?:\.0*(?!\d)|\.?\d*[eE])|\d{16}/;

/**
 * What Python reads a JSON number as, where a template could print it: a float without a fraction, such as 1.0, as a
 * `Number` object, which unlike a class of ours also reaches a worker as it is; an int beyond 2^53 as a bigint.
 */
// deno-lint-ignore ban-types
export function pythonNumber(source: string): number | bigint | Number {
  const value = Number(source);
  if (!Number.isInteger(value)) return value;
  if (/[.eE]/.test(source)) return Object(value);
  return Number.isSafeInteger(value) ? value : BigInt(source);
}

/** `JSON.parse` with numbers as `pythonNumber` has them. */
export function parseJson(text: string): unknown {
  if (!LOSES.test(text)) return JSON.parse(text);
  const revive = (_: string, value: unknown, { source }: { source?: string }) =>
    typeof value === "number" && source !== undefined ? pythonNumber(source) : value;
  // The third argument is newer than the types of JSON.parse.
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}
