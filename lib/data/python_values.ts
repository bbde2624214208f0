/**
 * Values of columnar files, as `datasets` hands them on: numbers as Python's, and what JSON has no word for (times,
 * decimals) as the text that Python prints of it.
 *
 * @module
 */

/** A whole number; one beyond those that a float64 tells apart stays a bigint. */
export function integer(value: bigint | number): bigint | number {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A float: one without a fraction as a `Number` object, which a template prints with `.0`; see `pythonNumber`. */
// deno-lint-ignore ban-types
export const float = (value: number): number | Number => Number.isInteger(value) ? Object(value) : value;

/** `3` of scale 2 as `0.03`. */
export function decimalText(unscaled: bigint, scale: number): string {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, "0");
  const text = scale > 0 ? `${digits.slice(0, -scale)}.${digits.slice(-scale)}` : digits;
  return unscaled < 0n ? `-${text}` : text;
}

const NANOS_PER_DAY = 86_400_000_000_000n;
const MOST_DAYS = 100_000_000;

/** `2024-01-02` of days since 1970. */
export function dateText(days: number): string {
  if (!(Math.abs(days) < MOST_DAYS)) throw new Error(`a day ${days} that no calendar has`);
  const [date] = new Date(days * 86_400_000).toISOString().split("T");
  if (!/^\d{4}-/.test(date) || date.startsWith("0000")) {
    throw new Error(`a year of ${date} that Python does not have`);
  }
  return date;
}

/** `03:04:05`, and the fraction in six digits, or in nine where there are nanoseconds. */
export function timeText(nanos: bigint): string {
  if (nanos < 0n || nanos >= NANOS_PER_DAY) throw new Error(`a time of ${nanos} nanoseconds`);
  const seconds = Number(nanos / 1_000_000_000n);
  const part = nanos % 1_000_000_000n;
  const two = (number: number) => String(Math.trunc(number)).padStart(2, "0");
  const fraction = String(part).padStart(9, "0");
  const clock = `${two(seconds / 3600)}:${two(seconds / 60 % 60)}:${two(seconds % 60)}`;
  return part === 0n ? clock : `${clock}.${part % 1000n === 0n ? fraction.slice(0, 6) : fraction}`;
}

/** `2024-01-02 03:04:05+00:00` of nanoseconds since 1970; of another zone than UTC the clock is not known here. */
export function timestampText(nanos: bigint, zone?: string | null): string {
  if (zone && !/^(?:UTC|Etc\/UTC|GMT|\+00:00|Z)$/i.test(zone)) {
    throw new Error(`times of the zone ${zone}, which are not read: cast the column to text or to UTC`);
  }
  const days = (nanos - (((nanos % NANOS_PER_DAY) + NANOS_PER_DAY) % NANOS_PER_DAY)) / NANOS_PER_DAY;
  return `${dateText(Number(days))} ${timeText(nanos - days * NANOS_PER_DAY)}${zone ? "+00:00" : ""}`;
}

/** Nanoseconds of a unit. */
export const NANOS = { seconds: 1_000_000_000n, millis: 1_000_000n, micros: 1000n, nanos: 1n } as const;
