/** Parquet files made by hand, to say what no writer would. */
import { Buffer } from "node:buffer";

/** A number is Thrift's i32, a bigint its i64; fields go by their number. */
export type Thrift = number | bigint | string | Uint8Array | Thrift[] | { [field: number]: Thrift };

const varint = (value: bigint): number[] =>
  value < 128n ? [Number(value)] : [Number(value & 127n) | 128, ...varint(value >> 7n)];
const zigzag = (value: bigint) => varint(BigInt.asUintN(64, value << 1n ^ value >> 63n));

function kindOf(value: Thrift): number {
  if (typeof value === "number") return 5;
  if (typeof value === "bigint") return 6;
  if (typeof value === "string" || value instanceof Uint8Array) return 8;
  return Array.isArray(value) ? 9 : 12;
}

/** A value in Thrift's compact protocol. */
export function encode(value: Thrift): number[] {
  if (typeof value === "number" || typeof value === "bigint") return zigzag(BigInt(value));
  if (typeof value === "string" || value instanceof Uint8Array) {
    const bytes = [...Buffer.from(value as string)];
    return [...varint(BigInt(bytes.length)), ...bytes];
  }
  if (Array.isArray(value)) {
    return [0xf0 | kindOf(value[0] ?? 0), ...varint(BigInt(value.length)), ...value.flatMap(encode)];
  }
  return [
    ...Object.entries(value).flatMap(([field, item]) => [
      kindOf(item),
      ...zigzag(BigInt(field)),
      ...encode(item),
    ]),
    0,
  ];
}

/** A page: its header's fields, and what follows the header. */
export interface Page {
  header: { [field: number]: Thrift };
  content?: number[];
}

const ENCODINGS = { plain: 0, dictionary: 8, deltas: 5, lengths: 6, prefixes: 7 };

/** A page of texts of the first kind, whose column may hold nulls: levels, then values. */
export function textPage(
  { values, levels = [2 * values, 1], content = [], encoding = "plain" }: {
    values: number;
    levels?: number[];
    content?: number[];
    encoding?: keyof typeof ENCODINGS;
  },
): Page {
  const all = [levels.length, 0, 0, 0, ...levels, ...content];
  return {
    header: { 1: 0, 2: all.length, 3: all.length, 5: { 1: values, 2: ENCODINGS[encoding], 3: 3, 4: 3 } },
    content: all,
  };
}

/** A file of one row group with the columns chosen and rejected; each has these pages. */
export function parquet(
  { pages, rows, values = rows, codec = 0, share = false, metadata }: {
    pages: Page[];
    rows: number;
    values?: number;
    codec?: number;
    /** Whether both columns point to the same bytes. */
    share?: boolean;
    /** In place of the footer. */
    metadata?: number[];
  },
): Uint8Array {
  const chunk = pages.flatMap(({ header, content = [] }) => [...encode(header), ...content]);
  const column = (name: string, offset: number) => ({
    2: BigInt(offset),
    3: {
      1: 6,
      2: [0],
      3: [name],
      4: codec,
      5: BigInt(values),
      6: BigInt(chunk.length),
      7: BigInt(chunk.length),
      9: BigInt(offset),
    },
  });
  const leaf = (name: string) => ({ 1: 6, 3: 1, 4: name, 6: 0 });
  const footer = metadata ?? encode({
    1: 1,
    2: [{ 4: "root", 5: 2 }, leaf("chosen"), leaf("rejected")],
    3: BigInt(rows),
    4: [{
      1: [column("chosen", 4), column("rejected", share ? 4 : 4 + chunk.length)],
      2: BigInt(2 * chunk.length),
      3: BigInt(rows),
    }],
  });
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([
    Buffer.from("PAR1"),
    Buffer.from(share ? chunk : [...chunk, ...chunk]),
    Buffer.from(footer),
    length,
    Buffer.from("PAR1"),
  ]);
}
