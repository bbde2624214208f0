/**
 * TensorBoard's event files: records of TFRecord's form (tensorflow/core/lib/io/record_writer.h), each an `Event` of
 * tensorboard/compat/proto/event.proto. Only the fields that a log of figures and texts has are written.
 */

/** What an event file holds, in the words of event.proto. */
export type Event =
  /** The first of a file. */
  | { kind: "version" }
  /** What was read before of this step and later ones is void: it is done again. */
  | { kind: "start"; step: number }
  | { kind: "scalar"; step: number; tag: string; value: number }
  | { kind: "text"; step: number; tag: string; text: string };

/** Of protobuf's wire types, those that occur. */
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

/**
 * One event as a record of an event file.
 *
 * @param wallTime seconds since 1970.
 *
 * @example
 * ```ts
 * import { eventRecord } from "./tensorboard.ts";
 * import assert from "node:assert/strict";
 * const record = eventRecord({ kind: "scalar", step: 3, tag: "train/loss", value: -0.5 }, 1.5e9);
 * // Length and its checksum, the event, its checksum.
 * assert.equal(record.length, 8 + 4 + 32 + 4);
 * ```
 */
export function eventRecord(event: Event, wallTime: number): Uint8Array<ArrayBuffer> {
  const step = "step" in event ? event.step : 0;
  return record(concat([
    field(1, FIXED64, float(wallTime, 8)),
    ...(step > 0 ? [field(2, VARINT, varint(step))] : []),
    content(event),
  ]));
}

function content(event: Event): Uint8Array {
  switch (event.kind) {
    case "version":
      return message(3, utf8("brain.Event:2"));
    case "start":
      // SessionLog { status: START }
      return message(7, field(1, VARINT, varint(1)));
    case "scalar":
      return summary(event.tag, field(2, FIXED32, float(event.value, 4)));
    case "text":
      // As PyTorch's add_text(): a tensor of one string, for the plug-in "text".
      return summary(
        `${event.tag}/text_summary`,
        message(
          8,
          field(1, VARINT, varint(7)),
          message(2, message(2, field(1, VARINT, varint(1)))),
          message(8, utf8(event.text)),
        ),
        message(9, message(1, message(1, utf8("text")))),
      );
  }
}

/** Event.summary of one value, whose fields stand in the order of their numbers. */
const summary = (tag: string, ...fields: Uint8Array[]) =>
  message(5, message(1, message(1, utf8(tag)), ...fields));

const message = (number: number, ...parts: Uint8Array[]) => {
  const bytes = concat(parts);
  return field(number, BYTES, concat([varint(bytes.length), bytes]));
};

const field = (number: number, type: number, value: Uint8Array) => concat([varint(number * 8 + type), value]);

const utf8 = (text: string) => new TextEncoder().encode(text);

/** Seven bits a byte, the lowest first. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return new Uint8Array([...bytes, value]);
}

function float(value: number, bytes: 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  if (bytes === 4) view.setFloat32(0, value, true);
  else view.setFloat64(0, value, true);
  return new Uint8Array(view.buffer);
}

/** The data with their length before them, and the checksum of each. */
function record(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(data.length), true);
  return concat([length, masked(length), data, masked(data)]);
}

/** The checksum as a record has it: rotated, since a checksum of what holds checksums is a weak one. */
function masked(bytes: Uint8Array): Uint8Array {
  const crc = crc32c(bytes);
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, ((crc >>> 15 | crc << 17) + 0xa282ead8) >>> 0, true);
  return new Uint8Array(view.buffer);
}

/** Castagnoli's polynomial, its bits reversed. */
const POLYNOMIAL = 0x82f63b78;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? byte >>> 1 ^ POLYNOMIAL : byte >>> 1;
  return byte;
});

/** CRC-32C (RFC 3720, B.4). */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >>> 8;
  return ~crc >>> 0;
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** The tag of a log's figure, as transformers' TensorBoardCallback names it (`rewrite_logs`). */
export function tagOf(figure: string): string {
  return figure.startsWith("eval_") ? `eval/${figure.slice("eval_".length)}` : `train/${figure}`;
}
