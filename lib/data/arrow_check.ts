/**
 * What must hold before a message of an Arrow file is given to its decoder, which trusts the counts in it: reads
 * beyond a flatbuffer's end are zeros to it, and a list may claim two thousand million entries.
 *
 * @module
 */

/** A column of a message list has five levels. */
const MOST_LEVELS = 16;
const MOST_FIELDS = 10_000;
/** Rows that any file may have, however short, since columns of nulls take no room. */
const FREE_VALUES = 2 ** 20;

export const SCHEMA = 1;
export const DICTIONARY = 2;
export const ROWS = 3;

/** A message of an Arrow file: what kind it is, and the bytes of its body. */
export interface MessageFacts {
  kind: number;
  bodyLength: number;
}

/** A flatbuffer, read with an eye on its end. */
class Flat {
  readonly #view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The DataView throws for what is not there. */
  table(at: number): number {
    return at + this.#view.getUint32(at, true);
  }

  field(table: number, index: number): number | undefined {
    const vtable = table - this.#view.getInt32(table, true);
    const size = this.#view.getUint16(vtable, true);
    if (4 + 2 * index + 2 > size) return undefined;
    const offset = this.#view.getUint16(vtable + 4 + 2 * index, true);
    return offset === 0 ? undefined : table + offset;
  }

  child(table: number, index: number): number | undefined {
    const at = this.field(table, index);
    return at === undefined ? undefined : this.table(at);
  }

  byte(table: number, index: number): number {
    const at = this.field(table, index);
    return at === undefined ? 0 : this.#view.getUint8(at);
  }

  long(at: number): number {
    const value = this.#view.getBigInt64(at, true);
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error(`a length of ${value}`);
    return Number(value);
  }

  longField(table: number, index: number): number {
    const at = this.field(table, index);
    return at === undefined ? 0 : this.long(at);
  }

  /** Where the entries of a list begin, which are all there. */
  list(table: number, index: number, entryBytes: number): { start: number; count: number } {
    const at = this.child(table, index);
    if (at === undefined) return { start: 0, count: 0 };
    const count = this.#view.getUint32(at, true);
    if (at + 4 + count * entryBytes > this.bytes.length) throw new Error(`a list of ${count} entries`);
    return { start: at + 4, count };
  }
}

/**
 * @param metadata the message without its body.
 * @param size bytes of the file.
 * @throws {Error} that says what is wrong.
 */
export function checkMessage(metadata: Uint8Array, size: number): MessageFacts {
  const flat = new Flat(metadata);
  const message = flat.table(0);
  const kind = flat.byte(message, 1);
  const header = flat.child(message, 2);
  const bodyLength = flat.longField(message, 3);
  flat.list(message, 4, 4);
  if (bodyLength > size) throw new Error(`a body of ${bodyLength} bytes`);
  if (header === undefined) throw new Error("a message without a header");
  if (kind === SCHEMA) checkSchema(flat, header);
  else if (kind === ROWS) checkBatch(flat, header, bodyLength, size);
  else if (kind === DICTIONARY) {
    const batch = flat.child(header, 1);
    if (batch === undefined) throw new Error("a dictionary without values");
    checkBatch(flat, batch, bodyLength, size);
  }
  return { kind, bodyLength };
}

function checkSchema(flat: Flat, schema: number): void {
  if (flat.byte(schema, 0) !== 0) throw new Error("numbers with their highest byte first");
  flat.list(schema, 2, 4);
  flat.list(schema, 3, 8);
  let fields = 0;
  const visit = (table: number, index: number, level: number): void => {
    const { start, count } = flat.list(table, index, 4);
    if (level > MOST_LEVELS) throw new Error(`columns nested more than ${MOST_LEVELS} deep`);
    for (let i = 0; i < count; i++) {
      if (++fields > MOST_FIELDS) throw new Error(`more than ${MOST_FIELDS} columns`);
      const field = flat.table(start + 4 * i);
      flat.list(field, 6, 4);
      // The name, and a union's list of types.
      flat.list(field, 0, 1);
      const type = flat.child(field, 3);
      if (type !== undefined && flat.byte(field, 2) === UNION) {
        throw new Error("a column of unions, which are not read");
      }
      visit(field, 5, level + 1);
    }
  };
  visit(schema, 1, 0);
}

const UNION = 14;

function checkBatch(flat: Flat, batch: number, bodyLength: number, size: number): void {
  const most = FREE_VALUES + size;
  if (flat.longField(batch, 0) > most) throw new Error(`${flat.longField(batch, 0)} rows`);
  const nodes = flat.list(batch, 1, 16);
  for (let i = 0; i < nodes.count; i++) {
    const length = flat.long(nodes.start + 16 * i);
    if (length > most || flat.long(nodes.start + 16 * i + 8) > length) throw new Error(`${length} values`);
  }
  const buffers = flat.list(batch, 2, 16);
  for (let i = 0; i < buffers.count; i++) {
    const [offset, length] = [flat.long(buffers.start + 16 * i), flat.long(buffers.start + 16 * i + 8)];
    if (offset + length > bodyLength) {
      throw new Error(`bytes ${offset} to ${offset + length} are not in the message`);
    }
  }
  const variadic = flat.list(batch, 4, 8);
  for (let i = 0; i < variadic.count; i++) {
    if (flat.long(variadic.start + 8 * i) > buffers.count) throw new Error("more buffers than there are");
  }
  // `datasets` writes none that are; the decoder would unpack them without a bound.
  if (flat.child(batch, 3) !== undefined) {
    throw new Error(
      "compressed columns, which are not read: write the file without compression, or as Parquet",
    );
  }
}
