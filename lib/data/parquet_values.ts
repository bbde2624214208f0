import { DEFAULT_PARSERS } from "npm:hyparquet@^1.31.5/src/convert.js";
import type { ParquetParsers, SchemaTree } from "npm:hyparquet@^1.31.5";
import { dateText, decimalText, float, integer, NANOS, timestampText, timeText } from "./python_values.ts";

/** Times as the numbers that they are stored as: a column's own converter makes text of them. */
export const PARSERS = {
  ...DEFAULT_PARSERS,
  timestampFromMilliseconds: (value: unknown) => value,
  timestampFromMicroseconds: (value: unknown) => value,
  timestampFromNanoseconds: (value: unknown) => value,
  dateFromDays: (value: unknown) => value,
  // `datasets` has it as text.
  jsonFromBytes: DEFAULT_PARSERS.stringFromBytes,
} as unknown as ParquetParsers;

type Convert = (value: unknown) => unknown;

/**
 * How the values of a column are handed on, nested ones too; see `python_values.ts`.
 * @throws {Error} for a column of a type that is not read.
 */
export function converterOf(node: SchemaTree): Convert {
  const convert = node.children.length > 0 ? nested(node) : leaf(node);
  return (value) => value === null || value === undefined ? null : convert(value);
}

function nested(node: SchemaTree): Convert {
  const { children, element } = node;
  const kind = element.converted_type ?? element.logical_type?.type;
  const [child] = children;
  if (kind === "LIST" && children.length === 1 && child.element.repetition_type === "REPEATED") {
    const item = converterOf(child.children.length === 1 ? child.children[0] : child);
    return (value) => Array.isArray(value) ? value.map(item) : value;
  }
  if (kind === "MAP" || kind === "MAP_KEY_VALUE") {
    // `datasets` has no such columns either.
    throw new Error(
      `the column ${node.path.join(".")} is a map, which is not read: write it as a list or as text`,
    );
  }
  const fields = children.map((field) => [field.element.name, converterOf(field)] as const);
  const struct: Convert = (value) =>
    Object.fromEntries(
      fields.map(([name, convert]) => [name, convert((value as Record<string, unknown>)[name])]),
    );
  return element.repetition_type === "REPEATED"
    ? (value) => Array.isArray(value) ? value.map(struct) : struct(value)
    : struct;
}

function leaf({ element, path }: SchemaTree): Convert {
  const { type, converted_type: converted, logical_type: logical } = element;
  const refused = (what: string) =>
    new Error(`the column ${path.join(".")} holds ${what}, which is not read: cast it to text`);
  const each = (convert: Convert): Convert =>
    element.repetition_type === "REPEATED"
      ? (value) => Array.isArray(value) ? value.map(convert) : convert(value)
      : convert;
  if (converted === "DECIMAL" || logical?.type === "DECIMAL") {
    const scale = element.scale ?? 0;
    // The decoder would make floats of them.
    element.converted_type = element.logical_type = undefined;
    return each((value) =>
      decimalText(value instanceof Uint8Array ? signed(value) : BigInt(value as number), scale)
    );
  }
  if (converted === "DATE" || logical?.type === "DATE") return each((value) => dateText(Number(value)));
  const isUtc = logical?.type === "TIMESTAMP" ? logical.isAdjustedToUTC : false;
  const time = (nanos: bigint, isTimestamp: boolean): Convert =>
    each((value) =>
      isTimestamp
        ? timestampText(BigInt(value as bigint) * nanos, isUtc ? "UTC" : undefined)
        : timeText(BigInt(value as bigint) * nanos)
    );
  if (logical?.type === "TIMESTAMP" || logical?.type === "TIME") {
    const unit = { MILLIS: NANOS.millis, MICROS: NANOS.micros, NANOS: NANOS.nanos }[logical.unit];
    return time(unit, logical.type === "TIMESTAMP");
  }
  if (type === "INT96") return time(NANOS.nanos, true);
  const old = /^(TIME|TIMESTAMP)_(MILLIS|MICROS)$/.exec(converted ?? "");
  if (old) return time(old[2] === "MILLIS" ? NANOS.millis : NANOS.micros, old[1] === "TIMESTAMP");
  if (converted === "INTERVAL" || converted === "BSON") throw refused(converted.toLowerCase());
  const isText = converted === "UTF8" || converted === "JSON" || logical?.type === "STRING" ||
    logical?.type === "JSON";
  if (type === "BYTE_ARRAY" && !isText) {
    throw refused("bytes without a type");
  }
  if (type === "FIXED_LEN_BYTE_ARRAY" && logical?.type !== "FLOAT16" && logical?.type !== "UUID") {
    throw refused("bytes");
  }
  if (type === "INT64" || converted === "UINT_64") return each((value) => integer(value as bigint));
  if (type === "DOUBLE" || type === "FLOAT" || logical?.type === "FLOAT16") {
    return each((value) => float(value as number));
  }
  return (value) => value;
}

/** A signed number of bytes, the highest first. */
function signed(bytes: Uint8Array): bigint {
  const unsigned = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  return BigInt.asIntN(8 * bytes.length, unsigned);
}
