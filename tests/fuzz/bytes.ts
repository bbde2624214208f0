/** Damage to bytes and text that knows nothing of their format. */
import { Buffer } from "node:buffer";
import type { Random } from "./random.ts";

const INTERESTING = [0, 1, 7, 8, 16, 127, 128, 255, 256, 32767, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const INTERESTING_64 = [0n, 1n, 99_999_999n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 64n - 1n];

type Damage = (random: Random, bytes: Buffer, other: Uint8Array) => Buffer;

/** A part of the bytes, most often short. */
function range(random: Random, length: number): [number, number] {
  const start = random.below(length + 1);
  const most = random.chance(0.7) ? 16 : length;
  return [start, Math.min(length, start + random.below(most + 1))];
}

const without = (bytes: Buffer, start: number, end: number, insert: Uint8Array = new Uint8Array(0)) =>
  Buffer.concat([bytes.subarray(0, start), insert, bytes.subarray(end)]);

const noise = (random: Random, length: number) => Uint8Array.from({ length }, () => random.below(256));

const DAMAGES: readonly Damage[] = [
  // Bits flipped.
  (random, bytes) => {
    for (let i = random.few(); i > 0 && bytes.length > 0; i--) {
      bytes[random.below(bytes.length)] ^= 1 << random.below(8);
    }
    return bytes;
  },
  // Bytes of another value.
  (random, bytes) => {
    for (let i = random.few(); i > 0 && bytes.length > 0; i--) {
      bytes[random.below(bytes.length)] = random.pick([
        0,
        0x22,
        0x2c,
        0x2d,
        0x30,
        0x39,
        0x5b,
        0x5d,
        0x7b,
        0x7f,
        0xff,
      ]);
    }
    return bytes;
  },
  (random, bytes) => bytes.subarray(0, random.below(bytes.length + 1)),
  (random, bytes) => without(bytes, ...range(random, bytes.length)),
  // A part comes twice, or many times.
  (random, bytes) => {
    const [start, end] = range(random, bytes.length);
    const times = random.chance(0.9) ? 1 : 200;
    return without(bytes, end, end, Buffer.concat(Array(times).fill(bytes.subarray(start, end))));
  },
  (random, bytes) => {
    const at = random.below(bytes.length + 1);
    return without(bytes, at, at, noise(random, random.few()));
  },
  (random, bytes) => {
    const [start, end] = range(random, bytes.length);
    return bytes.fill(random.pick([0, 0x80, 0xff]), start, end);
  },
  // A part of another file.
  (random, bytes, other) => {
    const [start, end] = range(random, bytes.length);
    return without(
      bytes,
      start,
      random.chance(0.5) ? start : end,
      other.subarray(...range(random, other.length)),
    );
  },
  (random, bytes) => {
    if (bytes.length >= 4) {
      bytes.writeUInt32LE(random.pick(INTERESTING), random.below(bytes.length - 3));
    }
    return bytes;
  },
  (random, bytes) => {
    if (bytes.length >= 8) {
      bytes.writeBigUInt64LE(random.pick(INTERESTING_64), random.below(bytes.length - 7));
    }
    return bytes;
  },
  // A length or an offset that is off by one.
  (random, bytes) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)] += random.pick([1, 255]);
    return bytes;
  },
];

/** The bytes with some of the damages above; `other` is the file to borrow from. */
export function damageBytes(
  random: Random,
  bytes: Uint8Array,
  other: Uint8Array = bytes,
): Uint8Array<ArrayBuffer> {
  let damaged = Buffer.from(bytes);
  for (let i = random.few(); i > 0; i--) damaged = Buffer.from(random.pick(DAMAGES)(random, damaged, other));
  return new Uint8Array(damaged);
}

const TOKEN = /[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu;

/**
 * The text with words and marks taken out, doubled, exchanged, or replaced by those of `words`.
 *
 * @param words what the format gives a meaning to.
 */
export function damageText(random: Random, text: string, words: readonly string[]): string {
  const tokens: string[] = text.match(TOKEN) ?? [];
  for (let i = random.few(); i > 0; i--) {
    const at = random.below(tokens.length + 1);
    const count = random.chance(0.8) ? 1 : random.below(20);
    switch (random.below(5)) {
      case 0:
        tokens.splice(at, count);
        break;
      case 1:
        tokens.splice(at, 0, ...tokens.slice(at, at + count));
        break;
      case 2:
        tokens.splice(at, 0, ...tokens.splice(random.below(tokens.length + 1), count));
        break;
      case 3:
        tokens.splice(at, 1, random.pick(words));
        break;
      default:
        tokens.splice(at, 0, random.pick(words).repeat(random.chance(0.95) ? 1 : 5000));
    }
  }
  return tokens.join("");
}
