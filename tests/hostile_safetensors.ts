import assert from "node:assert/strict";
import { UserError } from "../lib/errors.ts";
import { openCheckpoint } from "../lib/safetensors/read.ts";

/**
 * A safetensors file of this header (JSON text, or an object to serialise) and this many zero bytes of data.
 */
export function file(header: unknown, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

/** The entry of a tensor in the header. */
export function entry(dtype: unknown, shape: unknown, offsets: unknown): Record<string, unknown> {
  return { dtype, shape, data_offsets: offsets };
}

/** Asserts that opening `folder` fails with one short UserError that names it and matches `messages`. */
export async function assertRefused(folder: string, ...messages: RegExp[]): Promise<void> {
  await assert.rejects(openCheckpoint(folder), (error) => {
    assert.ok(error instanceof UserError, `a UserError, not ${error}`);
    assert.equal(error.status, 1);
    assert.ok(error.message.includes(folder), `${error.message} names ${folder}`);
    assert.ok(error.message.length < 1000, `${error.message.length} characters`);
    for (const message of messages) assert.match(error.message, message);
    return true;
  });
}
