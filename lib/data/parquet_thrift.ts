/** Kinds of values in Thrift's compact protocol. */
const [STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT] = [
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  12,
];
/** Those of Parquet have five levels. */
const MOST_LEVELS = 16;
const LONGEST_VARINT = 10;

/** Varints from `at` on: each read moves it. */
export class VarintReader {
  constructor(readonly bytes: Uint8Array, public at = 0) {}

  byte(): number {
    if (this.at >= this.bytes.length) throw new Error("a structure ends early");
    return this.bytes[this.at++];
  }

  /** An unsigned number; exact up to 2^53. */
  varint(): number {
    let value = 0;
    for (let i = 0; i < LONGEST_VARINT; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    throw new Error(`a number of more than ${LONGEST_VARINT} bytes`);
  }

  skip(bytes: number): void {
    if (!(bytes <= this.bytes.length - this.at)) throw new Error("a structure ends early");
    this.at += bytes;
  }
}

/**
 * Walks over a structure in Thrift's compact protocol, so that a decoder that makes a list as long as its length says
 * can be given it: no list claims more items than there are bytes, all of them together included, and nothing is
 * nested deeply.
 *
 * @returns where the structure ends.
 * @throws {Error} where it is none.
 */
export function checkThrift(bytes: Uint8Array, start: number): number {
  const reader = new VarintReader(bytes, start);
  let items = 0;
  const element = (type: number, level: number): void => {
    switch (type) {
      case BYTE:
        return reader.skip(1);
      case I16:
      case I32:
      case I64:
        return void reader.varint();
      case DOUBLE:
        return reader.skip(8);
      case BINARY:
        return reader.skip(reader.varint());
      case LIST: {
        const head = reader.byte();
        const count = head >> 4 === 15 ? reader.varint() : head >> 4;
        items += count;
        if (items > bytes.length) throw new Error(`a list of ${count} items`);
        const itemType = head & 15;
        for (let i = 0; i < count; i++) {
          element(itemType === TRUE || itemType === FALSE ? BYTE : itemType, level + 1);
        }
        return;
      }
      case STRUCT:
        return structure(level + 1);
      default:
        throw new Error(`a structure of kind ${type}`);
    }
  };
  const structure = (level: number): void => {
    if (level > MOST_LEVELS) throw new Error(`structures nested more than ${MOST_LEVELS} deep`);
    for (let head; (head = reader.byte()), (head & 15) !== STOP;) {
      if (head >> 4 === 0) reader.varint();
      // A boolean field's value is in its kind.
      const type = head & 15;
      if (type !== TRUE && type !== FALSE) element(type, level);
    }
  };
  structure(0);
  return reader.at;
}
