import { type Data, DataType, DateUnit, TimeUnit } from "npm:apache-arrow@^21.2.0";
import { dateText, decimalText, float, integer, NANOS, timestampText, timeText } from "./python_values.ts";

/** A column of a batch, or what is nested in one. */
// deno-lint-ignore no-explicit-any -- the type says what is in it
export type Column = Data<any>;

const decoder = new TextDecoder();
const UNITS = {
  [TimeUnit.SECOND]: NANOS.seconds,
  [TimeUnit.MILLISECOND]: NANOS.millis,
  [TimeUnit.MICROSECOND]: NANOS.micros,
  [TimeUnit.NANOSECOND]: NANOS.nanos,
};

/**
 * The value at `index`, as `datasets` hands it on; see `python_values.ts`.
 *
 * @param name of the column, for messages.
 * @throws {Error} for a type that is not read, and for what a damaged file claims.
 */
export function valueOf(column: Column, index: number, name: string): unknown {
  const { type } = column;
  if (index >= column.length) throw new Error(`${name}: value ${index} of ${column.length}`);
  const at = column.offset + index;
  if (DataType.isNull(type) || !isValid(column, at)) return null;
  if (DataType.isDictionary(type)) {
    const key = Number(numberAt(column, at, name));
    for (let rest = key, i = 0; i < column.dictionary!.data.length; i++) {
      const data = column.dictionary!.data[i];
      if (rest >= 0 && rest < data.length) return valueOf(data, rest, name);
      rest -= data.length;
    }
    throw new Error(`${name}: entry ${key} of a dictionary`);
  }
  if (DataType.isUtf8(type) || DataType.isLargeUtf8(type)) {
    const [start, end] = rangeOf(column, at, column.values.length, name);
    return decoder.decode(column.values.subarray(start, end));
  }
  if (DataType.isList(type) || DataType.isLargeList(type)) {
    const [child] = column.children;
    const [start, end] = rangeOf(column, at, child.length, name);
    return Array.from({ length: end - start }, (_, i) => valueOf(child, start + i, name));
  }
  if (DataType.isFixedSizeList(type)) {
    const [child] = column.children;
    const size = type.listSize;
    if (!(size >= 0) || (at + 1) * size > child.length) throw new Error(`${name}: a list of ${size} values`);
    return Array.from({ length: size }, (_, i) => valueOf(child, at * size + i, name));
  }
  if (DataType.isStruct(type)) {
    const fields = type.children as { name: string }[];
    return Object.fromEntries(
      fields.map((field, i) => [field.name, valueOf(column.children[i], at, `${name}.${field.name}`)]),
    );
  }
  if (DataType.isBool(type)) {
    const byte = column.values[at >> 3];
    if (byte === undefined) throw new Error(`${name}: value ${at} is not there`);
    return (byte >> (at & 7) & 1) === 1;
  }
  if (DataType.isInt(type)) return integer(numberAt(column, at, name));
  if (DataType.isFloat(type)) {
    const value = Number(numberAt(column, at, name));
    return float(type.precision === 0 ? halfOf(value) : value);
  }
  if (DataType.isDate(type)) {
    const value = Number(numberAt(column, at, name));
    return dateText(type.unit === DateUnit.DAY ? value : Math.floor(value / 86_400_000));
  }
  if (DataType.isTimestamp(type)) {
    return timestampText(BigInt(numberAt(column, at, name)) * UNITS[type.unit], type.timezone);
  }
  if (DataType.isTime(type)) {
    return timeText(BigInt(numberAt(column, at, name)) * UNITS[type.unit as TimeUnit]);
  }
  if (DataType.isDecimal(type)) {
    const words = type.bitWidth / 32;
    const parts = column.values.subarray(at * words, (at + 1) * words) as Uint32Array;
    if (parts.length !== words) throw new Error(`${name}: value ${at} is not there`);
    const unsigned = parts.reduceRight((sum, word) => sum * 2n ** 32n + BigInt(word >>> 0), 0n);
    return decimalText(BigInt.asIntN(type.bitWidth, unsigned), type.scale);
  }
  throw new Error(`the column ${name} holds ${shortName(type)}, which is not read: cast it to text`);
}

const shortName = (type: DataType) => String(type).slice(0, 60);

function isValid({ nullBitmap }: Column, at: number): boolean {
  // Without one, there is no null.
  if (!nullBitmap || nullBitmap.length === 0) return true;
  if (at >> 3 >= nullBitmap.length) throw new Error(`value ${at} is not there`);
  return (nullBitmap[at >> 3] >> (at & 7) & 1) === 1;
}

function numberAt({ values }: Column, at: number, name: string): number | bigint {
  const value = values?.[at];
  if (value === undefined) throw new Error(`${name}: value ${at} is not there`);
  return value;
}

/** Ranges one after another: rows that share values would take memory without end. */
function rangeOf(
  { valueOffsets }: Column,
  at: number,
  length: number,
  name: string,
): [start: number, end: number] {
  const [start, end] = [Number(valueOffsets[at]), Number(valueOffsets[at + 1])];
  const before = at > 0 ? Number(valueOffsets[at - 1]) : 0;
  if (!(before <= start && start <= end && end <= length)) {
    throw new Error(`${name}: values ${start} to ${end} of ${length}`);
  }
  return [start, end];
}

/** A float of 16 bits. */
function halfOf(bits: number): number {
  const [sign, exponent, part] = [bits >> 15 ? -1 : 1, bits >> 10 & 31, bits & 1023];
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : 2 ** -14 * part / 1024);
}
