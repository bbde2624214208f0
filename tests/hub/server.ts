/**
 * A Hub on the loopback for tests: the HTTP API that @huggingface/hub and Python's huggingface_hub use, over
 * repositories in memory. Large files are served by a second origin, as the Hub's content delivery network does, to
 * which requests are redirected.
 */
import { createHash } from "node:crypto";
import { Commits } from "./commits.ts";

export interface HubFile {
  path: string;
  bytes: Uint8Array<ArrayBuffer>;
  /** Kept in large storage: its hash is SHA-256, and its bytes come from the other origin. */
  lfs?: boolean;
}

export interface HubRepo {
  type: "model" | "dataset";
  /** `owner/name`. */
  name: string;
  files: HubFile[];
  /** Branches and tags besides main, which all stand for the one commit. */
  revisions?: string[];
}

/** A request as the server saw it. */
export interface Seen {
  origin: "hub" | "cdn";
  method: string;
  path: string;
  range: string | null;
  authorization: string | null;
  /** Bytes of file content that were sent. */
  bytes: number;
}

/** What goes wrong with one request. */
export interface Fault {
  /** Answered instead of the content. */
  status?: number;
  /** Answered instead, as JSON with status 200. */
  json?: unknown;
  headers?: Record<string, string>;
  /** The connection breaks after so many bytes. */
  cutAfter?: number;
  /** Nothing more comes after so many bytes, and the connection stays. */
  stallAfter?: number;
  /** The content is this instead. */
  bytes?: Uint8Array<ArrayBuffer>;
  /** Range is not understood: the whole comes. */
  ignoreRange?: boolean;
  /** Milliseconds before the answer. */
  delay?: number;
}

export interface HubOptions {
  repos?: HubRepo[];
  /** Requests without this token are refused. */
  token?: string;
  /** Whose token that is. */
  user?: string;
  /** Changes what the listing says of a file. */
  list?: (entry: Record<string, unknown>) => unknown;
  /** Entries on a page of the listing. */
  pageSize?: number;
  fault?: (seen: Seen) => Fault | undefined;
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
export const gitHash = (bytes: Uint8Array) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
export const hashOf = ({ lfs, bytes }: HubFile) => lfs ? sha256(bytes) : gitHash(bytes);
/** A commit's name is made of what is in it. */
export const commitOf = ({ files }: HubRepo) =>
  createHash("sha1").update(files.map((file) => `${file.path} ${hashOf(file)}\n`).join("")).digest("hex");

const CHUNK = 16384;

/** A running Hub; `await using` stops it. */
export class Hub implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly commits: Commits;
  /** Ends connections too, which a mere shutdown would wait for. */
  readonly #stop = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #cdn: Deno.HttpServer<Deno.NetAddr>;

  constructor(readonly options: HubOptions = {}) {
    const serve = (origin: Seen["origin"]) =>
      Deno.serve(
        {
          hostname: "127.0.0.1",
          port: 0,
          signal: this.#stop.signal,
          onListen: () => {},
          onError: () => new Response(null, { status: 500 }),
        },
        (request) => this.#answer(request, origin),
      );
    this.#hub = serve("hub");
    this.#cdn = serve("cdn");
    this.commits = new Commits(this);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  get cdn(): string {
    return `http://127.0.0.1:${this.#cdn.addr.port}`;
  }

  get repos(): HubRepo[] {
    return this.options.repos ??= [];
  }

  /** Bytes of file content that were sent. */
  get bytesSent(): number {
    return this.seen.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.resolve();
    this.#stop.abort();
    await Promise.all([this.#hub.finished, this.#cdn.finished]);
  }

  async #answer(request: Request, origin: Seen["origin"]): Promise<Response> {
    const url = new URL(request.url);
    const seen: Seen = {
      origin,
      method: request.method,
      path: decodeURIComponent(url.pathname),
      range: request.headers.get("range"),
      authorization: request.headers.get("authorization"),
      bytes: 0,
    };
    this.seen.push(seen);
    const fault = this.options.fault?.(seen) ?? {};
    if (fault.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay));
    if (fault.json) return Response.json(fault.json, { headers: fault.headers });
    if (fault.status) return refuse(fault.status, "", fault.headers);
    if (origin === "cdn") return await this.#cdnAnswer(request, seen, fault);
    const { token } = this.options;
    if (token && seen.authorization !== `Bearer ${token}`) return refuse(401, "RepoNotFound");
    return await this.commits.answer(request, seen.path) ?? this.#hubAnswer(url, seen, fault);
  }

  async #cdnAnswer(request: Request, seen: Seen, fault: Fault): Promise<Response> {
    const hash = seen.path.slice(1);
    if (request.method === "PUT") return await this.commits.receive(hash, request);
    const file = this.repos.flatMap(({ files }) => files).find((file) => hashOf(file) === hash);
    return file ? this.#content(file, seen, fault) : refuse(404, "EntryNotFound");
  }

  #hubAnswer(url: URL, seen: Seen, fault: Fault): Response {
    const [, cachedCommit, cached] = /^\/api\/resolve-cache\/([0-9a-f]+)\/([0-9a-f]+)$/.exec(seen.path) ?? [];
    if (cached) {
      const file = this.repos.flatMap(({ files }) => files).find((file) => hashOf(file) === cached);
      if (!file) return refuse(404, "EntryNotFound");
      const response = this.#content(file, seen, fault);
      response.headers.set("x-repo-commit", cachedCommit);
      return response;
    }
    const parts =
      /^\/(api\/models\/|api\/datasets\/|datasets\/|)([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.+)$/
        .exec(seen.path);
    if (!parts) return refuse(404, "");
    const [, prefix, name, action, rest] = parts;
    const type = prefix.includes("datasets") ? "dataset" : "model";
    const repo = this.repos.find((repo) => repo.type === type && repo.name === name);
    if (!repo) return refuse(404, "RepoNotFound");
    const commit = commitOf(repo);
    const revision = [commit, "main", ...repo.revisions ?? []].find((name) =>
      rest === name || rest.startsWith(`${name}/`)
    );
    if (!revision) return refuse(404, "RevisionNotFound");
    if (action === "revision") return this.#info(repo, commit);
    if (action === "tree") return this.#tree(repo, url);
    const file = repo.files.find(({ path }) => path === rest.slice(revision.length + 1));
    if (!file) return refuse(404, "EntryNotFound");
    const hash = hashOf(file);
    const location = file.lfs ? `${this.cdn}/${hash}` : `/api/resolve-cache/${commit}/${hash}`;
    return new Response(null, {
      status: file.lfs ? 302 : 307,
      headers: {
        location,
        etag: `"${hash}"`,
        "x-linked-etag": `"${hash}"`,
        "x-linked-size": String(file.bytes.length),
        "x-repo-commit": commit,
        "content-length": "0",
        "accept-ranges": "bytes",
      },
    });
  }

  #info({ name, files }: HubRepo, sha: string): Response {
    return Response.json({
      _id: "0",
      id: name,
      sha,
      private: false,
      gated: false,
      disabled: false,
      downloads: 0,
      likes: 0,
      tags: [],
      lastModified: "2025-01-01T00:00:00.000Z",
      siblings: files.map(({ path }) => ({ rfilename: path })),
    });
  }

  #tree({ files }: HubRepo, url: URL): Response {
    const folders = new Set(
      files.map(({ path }) => path.split("/").slice(0, -1).join("/")).filter((path) => path !== ""),
    );
    const entries: Record<string, unknown>[] = [
      ...[...folders].map((path) => ({ type: "directory", oid: "0".repeat(40), size: 0, path })),
      ...files.map((file) => ({
        type: "file",
        oid: gitHash(file.bytes),
        size: file.bytes.length,
        path: file.path,
        ...(file.lfs && { lfs: { oid: sha256(file.bytes), size: file.bytes.length, pointerSize: 134 } }),
      })),
    ];
    const { list = (entry: unknown) => entry, pageSize = 1000 } = this.options;
    const start = Number(url.searchParams.get("cursor") ?? 0);
    url.searchParams.set("cursor", String(start + pageSize));
    const isLast = start + pageSize >= entries.length;
    const headers: HeadersInit = isLast ? {} : { link: `<${url.href}>; rel="next"` };
    return Response.json(entries.slice(start, start + pageSize).map(list), { headers });
  }

  /** Content, or the range of it that is asked for. */
  #content(file: HubFile, seen: Seen, fault: Fault): Response {
    const bytes = fault.bytes ?? file.bytes;
    const range = fault.ignoreRange ? undefined : /^bytes=(\d+)-$/.exec(seen.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const headers = new Headers({ "accept-ranges": "bytes", etag: `"${hashOf(file)}"` });
    if (start >= bytes.length && range) {
      headers.set("content-range", `bytes */${bytes.length}`);
      return new Response(null, { status: 416, headers });
    }
    headers.set("content-length", String(bytes.length - start));
    if (range) headers.set("content-range", `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
    const body = seen.method === "HEAD" ? null : this.#stream(bytes.subarray(start), seen, fault);
    return new Response(body, { status: range ? 206 : 200, headers });
  }

  #stream(bytes: Uint8Array<ArrayBuffer>, seen: Seen, fault: Fault): ReadableStream<Uint8Array> {
    const end = Math.min(bytes.length, fault.cutAfter ?? Infinity, fault.stallAfter ?? Infinity);
    let at = 0;
    return new ReadableStream({
      pull: async (controller) => {
        if (at < end) {
          const piece = bytes.subarray(at, Math.min(end, at + CHUNK));
          at += piece.length;
          seen.bytes += piece.length;
          controller.enqueue(piece);
        } else if (fault.cutAfter !== undefined) {
          // What was given goes out before the connection breaks.
          await new Promise((resolve) => setTimeout(resolve, 5));
          controller.error(new Error("cut"));
        } else if (fault.stallAfter !== undefined) {
          await this.#stopped.promise;
          controller.error(new Error("stopped"));
        } else controller.close();
      },
    });
  }
}

/** A refusal as the Hub writes it. */
export function refuse(status: number, code: string, headers: Record<string, string> = {}): Response {
  const all = { ...headers, ...(code && { "x-error-code": code }) };
  return Response.json({ error: `refused with ${status}` }, { status, headers: all });
}
