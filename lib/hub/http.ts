import { UserError } from "../errors.ts";
import { type Repo, repoLabel, repoPage } from "./repo.ts";
import type { HubSettings } from "./settings.ts";

/** The Hub did not answer, or not as it should; a copy in the cache can stand in. */
export class Unreachable extends UserError {}

/** The Hub refused with a status. */
export class Refused extends UserError {
  constructor(readonly httpStatus: number, message: string) {
    super(message);
  }
}

/** A failure that another attempt may mend. */
export class TryAgain extends Error {
  /** @param after milliseconds to wait, where the server said so. */
  constructor(message: string, readonly after?: number) {
    super(message);
  }
}

/** A request's answer after its redirects. */
export interface Answer {
  response: Response;
  /** Hash of the file's content, where a hop named it. */
  linkedEtag?: string;
}

const ATTEMPTS = 5;
const MAX_REDIRECTS = 8;
const LONGEST_WAIT = 120_000;
/** A page of a listing has some hundred KB. */
const LARGEST_ANSWER = 2 ** 25;
const REDIRECTS = [301, 302, 303, 307, 308];
const PASSING = [408, 425, 429, 500, 502, 503, 504];

/**
 * Makes attempts until one does not throw `TryAgain`. `onProgress`, which an attempt calls when bytes came, starts the
 * count of failures anew.
 *
 * @throws {Unreachable} after `attempts` failures in a row; what an attempt throws otherwise.
 */
export async function withRetries<T>(
  settings: HubSettings,
  what: string,
  attempt: (onProgress: () => void) => Promise<T>,
  { signal, attempts = ATTEMPTS }: { signal?: AbortSignal; attempts?: number } = {},
): Promise<T> {
  let failures = 0;
  let hadProgress = false;
  const onProgress = () => {
    failures = 0;
    hadProgress = true;
  };
  for (;;) {
    checkStopped(signal);
    try {
      return await attempt(onProgress);
    } catch (error) {
      checkStopped(signal);
      if (!(error instanceof TryAgain)) throw error;
      if (++failures >= attempts) {
        throw new Unreachable(
          `${what}: ${error.message} (${failures} attempts). ${
            hadProgress
              ? "The same command goes on where this one stopped"
              : "Try again later, or name what is on this machine"
          }`,
        );
      }
      await wait(error.after ?? settings.backoff * 2 ** (failures - 1), signal);
    }
  }
}

/** @throws {UserError} once the run was stopped. */
export function checkStopped(signal?: AbortSignal): void {
  if (signal?.aborted) {
    throw new UserError("stopped; what was fetched is kept, and the same command goes on from it", 130);
  }
}

/**
 * One request, following redirects by hand: the token goes to the endpoint's own origin and nowhere else, and https
 * never becomes http.
 *
 * @throws {TryAgain} where the network failed; {UserError} for a redirect that is not followed.
 */
export async function request(settings: HubSettings, url: string, init: RequestInit = {}): Promise<Answer> {
  const home = new URL(settings.endpoint).origin;
  let target = new URL(url);
  // An answer may name an address, such as the one that an upload goes to.
  if (home.startsWith("https:") && target.protocol !== "https:") {
    throw new UserError(`${home} names ${target.protocol}//${target.host}: not followed`);
  }
  let linkedEtag: string | undefined;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const headers = new Headers(init.headers);
    headers.delete("authorization");
    if (settings.token && target.origin === home) headers.set("authorization", `Bearer ${settings.token}`);
    const response = await send(target, { ...init, headers, redirect: "manual" });
    linkedEtag ??= plainEtag(response.headers.get("x-linked-etag"));
    const location = response.headers.get("location");
    if (!REDIRECTS.includes(response.status) || location === null) return { response, linkedEtag };
    await response.body?.cancel();
    const next = URL.parse(location, target);
    const isSafe = next?.protocol === "https:" || (next?.protocol === "http:" && target.protocol === "http:");
    if (!next || !isSafe) {
      throw new UserError(
        `${target.protocol}//${target.host} redirects to ${location.slice(0, 80)}: not followed`,
      );
    }
    target = next;
  }
  throw new UserError(`${new URL(url).host} redirects more than ${MAX_REDIRECTS} times: not followed`);
}

/**
 * A `fetch` for @huggingface/hub: with the token, retries, a time limit, and a refusal in words for every status that
 * is none of success.
 *
 * @param about the repository that a refusal is about.
 */
export function apiFetch(settings: HubSettings, about: Repo, signal?: AbortSignal): typeof fetch {
  return (input, init = {}) => {
    const url = input instanceof Request ? input.url : String(input);
    const method = init.method ?? "GET";
    const isUpload = method === "PUT";
    return withRetries(settings, repoLabel(about), async () => {
      const timer = new Timer(signal);
      // An upload's answer comes only when all was sent.
      if (!isUpload) timer.start(4 * settings.stall);
      try {
        const { response } = await request(settings, url, { ...init, signal: timer.signal });
        const body = await readAll(response);
        if (response.ok) return new Response(body, { status: response.status, headers: response.headers });
        throw statusError(settings, about, response, new TextDecoder().decode(body.subarray(0, 2000)));
      } catch (error) {
        if (timer.expired) throw new TryAgain(`no answer in ${4 * settings.stall / 1000} s`);
        // A commit that may have been made is not sent again.
        if (error instanceof TryAgain && method === "POST" && error.after === undefined) {
          throw new Unreachable(`${repoLabel(about)}: ${error.message}`);
        }
        throw error;
      } finally {
        timer.stop();
      }
    }, { signal, attempts: 3 });
  };
}

/** Aborts a request when nothing came for a while, or when the run is stopped. */
export class Timer {
  expired = false;
  readonly #controller = new AbortController();
  readonly #onStop = () => this.#controller.abort();
  #timeout?: ReturnType<typeof setTimeout>;

  constructor(readonly stopped?: AbortSignal) {
    stopped?.addEventListener("abort", this.#onStop);
    if (stopped?.aborted) this.#controller.abort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Begins to count, or begins anew. */
  start(milliseconds: number): void {
    clearTimeout(this.#timeout);
    this.#timeout = setTimeout(() => {
      this.expired = true;
      this.#controller.abort();
    }, milliseconds);
  }

  stop(): void {
    clearTimeout(this.#timeout);
    this.stopped?.removeEventListener("abort", this.#onStop);
  }
}

/** What a status other than success means to a user; for one that may pass, another attempt. */
export function statusError(
  settings: HubSettings,
  repo: Repo,
  { status, headers }: Response,
  body = "",
): Error {
  const label = repoLabel(repo);
  const page = repoPage(settings.endpoint, repo);
  const code = headers.get("x-error-code") ?? "";
  const said = (headers.get("x-error-message") ?? errorOf(body)).slice(0, 300);
  const logIn =
    `Log in: set HF_TOKEN to a token of ${settings.endpoint}/settings/tokens, or run \`hf auth login\``;
  if (PASSING.includes(status)) {
    const after = retryAfter(headers);
    return new TryAgain(
      status === 429 ? "the Hub says: too many requests" : `the Hub answers ${status}`,
      after,
    );
  }
  const refuse = (message: string) => new Refused(status, `${label}: ${message}`);
  if (code === "GatedRepo" || (status === 403 && /gated|restricted|awaiting/i.test(said))) {
    return refuse(
      `gated: its owner grants access, ask for it at ${page}. ${
        settings.token ? "The token that was sent has no access" : logIn
      }`,
    );
  }
  if (status === 401 && settings.token) {
    return refuse(`the token is refused, or there is no such repository for it. ${logIn}`);
  }
  if (status === 401) return refuse(`not found, or private. Look for it at ${page}. ${logIn}`);
  if (status === 403) return refuse(`the token may not do this${said && `: ${said}`}. ${logIn}`);
  if (status === 404 && code === "RevisionNotFound") {
    return refuse(`no revision ${repo.revision}: ${page}/tree/main lists branches and tags`);
  }
  if (status === 404 && code === "EntryNotFound") return refuse("a file of the listing is not there");
  if (status === 404) {
    return refuse(`no such repository (${page}); and if it is private, log in first. ${logIn}`);
  }
  return refuse(`the Hub answers ${status}${said && `: ${said}`}`);
}

/** An ETag without quotes and the mark of a weak one. */
function plainEtag(etag: string | null): string | undefined {
  return etag?.replace(/^W\//, "").replaceAll('"', "");
}

async function send(target: URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(target, init);
  } catch (error) {
    throw networkError(error, target.host);
  }
}

/** A failure of the network as another attempt's reason; anything else as it is. */
export function networkError(error: unknown, host: string): unknown {
  if (!(error instanceof TypeError)) return error;
  const cause = error.cause instanceof Error ? error.cause.message : error.message;
  // The whole message holds the address, which may be signed.
  return new TryAgain(`cannot reach ${host}: ${cause.split(": ").at(-1)}`);
}

async function readAll(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const host = URL.parse(response.url)?.host ?? "the Hub";
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const piece of response.body ?? []) {
      length += piece.length;
      if (length > LARGEST_ANSWER) {
        throw new UserError(`${host}: an answer of more than ${LARGEST_ANSWER} bytes`);
      }
      pieces.push(piece);
    }
  } catch (error) {
    throw networkError(error, host);
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

function errorOf(body: string): string {
  try {
    const { error } = JSON.parse(body);
    return typeof error === "string" ? error : "";
  } catch {
    return "";
  }
}

/** Milliseconds that Retry-After or the Hub's RateLimit header (`t=` seconds) asks to wait. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after") ?? /\bt=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  if (value === undefined) return undefined;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(milliseconds) ? Math.min(LONGEST_WAIT, Math.max(0, milliseconds)) : undefined;
}

function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timeout);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timeout = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end);
  });
}
