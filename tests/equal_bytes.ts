/** Comparisons of much data: `assert.deepEqual` takes gigabytes to describe how two arrays of 20,000 numbers differ. */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

/** Arrays of numbers that lie side by side in memory. */
export type Numbers =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | Float32Array
  | Float64Array;

/** Elements that a message shows before the first that differs, and after it. */
const AROUND = 3;

/**
 * Compares two arrays of one type bit by bit: 0 is not -0, and a NaN equals one of the same bits only.
 *
 * @throws {assert.AssertionError} with the lengths, the first index that differs, both values, and those around it.
 */
export function assertEqualBytes(actual: Numbers, expected: Numbers, what = "array"): void {
  assert.equal(actual.BYTES_PER_ELEMENT, expected.BYTES_PER_ELEMENT, `${what}: bytes of an element`);
  const [found, wanted] = [actual, expected].map(({ buffer, byteOffset, byteLength }) =>
    new Uint8Array(buffer, byteOffset, byteLength)
  );
  let at = 0;
  while (at < found.length && found[at] === wanted[at]) at++;
  if (at === found.length && at === wanted.length) return;

  const index = Math.floor(at / actual.BYTES_PER_ELEMENT);
  const around = (values: Numbers) =>
    Array.from(values.subarray(Math.max(0, index - AROUND), index + AROUND + 1), short).join(", ");
  const lengths = actual.length === expected.length
    ? `of ${actual.length}`
    : `(${actual.length} elements, expected ${expected.length})`;
  assert.fail(
    `${what}: element ${index} ${lengths} is ${short(actual[index])}, expected ${short(expected[index])}; ` +
      `around it [${around(actual)}], expected [${around(expected)}]`,
  );
}

/**
 * `assert.deepEqual` for values that hold much: objects, lists and maps by their keys, typed arrays as
 * `assertEqualBytes` does.
 *
 * @throws {assert.AssertionError} with the place of the first difference and what stands there.
 */
export function assertSame(actual: unknown, expected: unknown, what = "value"): void {
  if (isNumbers(actual) && isNumbers(expected)) return assertEqualBytes(actual, expected, what);
  if (isDeepStrictEqual(actual, expected)) return;
  const [found, wanted] = [partsOf(actual), partsOf(expected)];
  if (found && wanted) {
    for (const key of new Set([...found.keys(), ...wanted.keys()])) {
      assertSame(found.get(key), wanted.get(key), `${what}[${short(key)}]`);
    }
  }
  assert.fail(`${what} is ${short(actual)}, expected ${short(expected)}`);
}

const isNumbers = (value: unknown): value is Numbers => ArrayBuffer.isView(value) && "subarray" in value;

/** What a list, map or plain object holds, by key. */
function partsOf(value: unknown): Map<unknown, unknown> | undefined {
  if (value instanceof Map) return value;
  if (typeof value === "object" && value !== null) return new Map(Object.entries(value));
}

/** At most 200 characters. */
function short(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  const text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  return typeof value === "string" ? JSON.stringify(text.slice(0, 200)) : text.slice(0, 200);
}
