/** Who may ask. */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "./api_error.ts";
import { PAGE_PATHS } from "./page.ts";

/** What a server asks of those who ask it. */
export interface GuardOptions {
  /** Whether only this machine reaches it. */
  isLoopback: boolean;
  /** What `Authorization: Bearer` must bring. */
  apiKey?: string;
  /** Origins whose pages may ask, besides the server's own. */
  allowedOrigins?: readonly string[];
}

/** Names of the loopback. */
export const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];
/** What says nothing of a model: that the server is there, and the page that asks for the key. */
const OPEN_TO_ALL = ["/health", ...PAGE_PATHS];

/**
 * Checks where a request comes from. A page of elsewhere must not ask in the name of who reads it: it has another
 * origin, or where a name was made to lead here (DNS rebinding) another host. Behind another address than the
 * loopback names are many, and a key is demanded, which such a page has not.
 *
 * @throws {ApiError} 403 for another host or origin, 401 without the key.
 */
export function checkAccess(
  request: Request,
  { isLoopback, apiKey, allowedOrigins = [] }: GuardOptions,
): void {
  const { hostname, pathname, origin: own } = new URL(request.url);
  if (isLoopback && !LOOPBACK.includes(hostname)) {
    throw new ApiError(403, "this server is only for the machine that it runs on", {
      code: "host_not_allowed",
    });
  }
  const origin = request.headers.get("origin");
  if (origin !== null && origin !== own && !allowedOrigins.includes(origin)) {
    throw new ApiError(403, "pages of other origins may not ask this server; --allowed_origins lets them", {
      code: "origin_not_allowed",
    });
  }
  // What a browser asks before it asks brings no key.
  if (apiKey === undefined || OPEN_TO_ALL.includes(pathname) || request.method === "OPTIONS") return;
  const [, given] = /^Bearer (.*)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  if (given !== undefined && isSame(given, apiKey)) return;
  throw new ApiError(
    401,
    given === undefined ? "expected a key: Authorization: Bearer KEY" : "the key is not this server's",
    { code: "invalid_api_key", headers: { "www-authenticate": "Bearer" } },
  );
}

/** Of hashes, which are of one length: the time that it takes says nothing of the key. */
function isSame(a: string, b: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
