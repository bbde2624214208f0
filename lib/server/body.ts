/** The body of a request: so many bytes at most, and in time. */
import { isDeep, isObject, MOST_LEVELS, show } from "../text/json.ts";
import { ApiError } from "./api_error.ts";

/** Bounds of a body. */
export interface BodyBounds {
  bytes: number;
  /** Within which it must be there. */
  milliseconds: number;
}

/**
 * The object of JSON that a request brings.
 * @throws {ApiError} for a body that is too large (413), too slow (408), or no object of JSON (400).
 */
export async function readBody(request: Request, bounds: BodyBounds): Promise<Record<string, unknown>> {
  const bytes = await readBytes(request, bounds);
  let value: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (isDeep(text)) throw new Error(`more than ${MOST_LEVELS} levels of lists and objects`);
    value = JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `expected a body of JSON: ${(error as Error).message}`, { code: "invalid_json" });
  }
  if (!isObject(value)) throw new ApiError(400, `expected an object of JSON, found ${show(value)}`);
  return value;
}

async function readBytes({ body, headers }: Request, bounds: BodyBounds): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = () =>
    new ApiError(413, `expected a body of at most ${bounds.bytes} bytes`, { code: "body_too_large" });
  if (Number(headers.get("content-length")) > bounds.bytes) throw tooLarge();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  if (body === null) return new Uint8Array();
  const reader = body.getReader();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    void reader.cancel().catch(() => {});
  }, bounds.milliseconds);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (isLate) throw new ApiError(408, `the body was not there after ${bounds.milliseconds / 1000} s`);
      if (done) break;
      length += value.length;
      if (length > bounds.bytes) {
        void reader.cancel().catch(() => {});
        throw tooLarge();
      }
      parts.push(value);
    }
  } finally {
    clearTimeout(timer);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
