/** The part of the loopback Hub that takes uploads. */
import { Buffer } from "node:buffer";
import { gitHash, type Hub, type HubFile, refuse, sha256 } from "./server.ts";

const LFS = /\.(safetensors|parquet|bin)$/;

export class Commits {
  /** Large files that were received, by hash. */
  readonly stored = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Bodies of the requests that made repositories. */
  readonly created: Record<string, unknown>[] = [];
  /** Titles of the commits that were made. */
  readonly made: string[] = [];

  constructor(readonly hub: Hub) {}

  /** The answer to a request of an upload; undefined for any other. */
  async answer(request: Request, path: string): Promise<Response | undefined> {
    if (path === "/api/whoami-v2") {
      return Response.json({ type: "user", name: this.hub.options.user, auth: { type: "access_token" } });
    }
    if (request.method !== "POST") return undefined;
    if (path === "/api/repos/create") return this.#create(await request.json());
    const action = /^\/api\/models\/([^/]+\/[^/]+)\/(preupload|commit)\/main$/.exec(path);
    if (action?.[2] === "preupload") return preupload(await request.json());
    if (action) return this.#commit(action[1], await request.text());
    if (path.endsWith(".git/info/lfs/objects/batch")) return this.#batch(await request.json());
    return undefined;
  }

  /** Takes a large file. */
  async receive(hash: string, request: Request): Promise<Response> {
    const length = request.headers.get("content-length");
    const bytes = new Uint8Array(await request.arrayBuffer());
    // As large storage does: it takes no body of unknown length.
    if (Number(length) !== bytes.length) return refuse(411, "");
    if (sha256(bytes) !== hash) return refuse(400, "");
    this.stored.set(hash, bytes);
    return new Response(null, { headers: { etag: `"${hash}"` } });
  }

  #create(body: Record<string, unknown>): Response {
    this.created.push(body);
    const name = `${body.organization}/${body.name}`;
    if (this.hub.repos.some((repo) => repo.name === name)) return refuse(409, "");
    this.hub.repos.push({ type: "model", name, files: [] });
    return Response.json({ url: `${this.hub.endpoint}/${name}`, id: "0" });
  }

  #batch({ objects }: { objects: { oid: string; size: number }[] }): Response {
    return Response.json({
      transfer: "basic",
      objects: objects.map(({ oid, size }) => ({
        oid,
        size,
        ...(!this.stored.has(oid) && { actions: { upload: { href: `${this.hub.cdn}/${oid}` } } }),
      })),
    });
  }

  #commit(name: string, text: string): Response {
    const repo = this.hub.repos.find((repo) => repo.name === name);
    if (!repo) return refuse(404, "RepoNotFound");
    for (const { key, value } of text.split("\n").map((line) => JSON.parse(line))) {
      if (key === "header") this.made.push(value.summary);
      const file: HubFile | undefined = key === "file"
        ? { path: value.path, bytes: new Uint8Array(Buffer.from(value.content, "base64")) }
        : key === "lfsFile"
        ? { path: value.path, bytes: this.stored.get(value.oid)!, lfs: true }
        : undefined;
      if (!file) continue;
      if (!file.bytes) return refuse(422, "");
      repo.files = [...repo.files.filter(({ path }) => path !== file.path), file];
    }
    const oid = gitHash(new TextEncoder().encode(text));
    return Response.json({ commitOid: oid, commitUrl: `${this.hub.endpoint}/${name}/commit/${oid}` });
  }
}

function preupload({ files }: { files: { path: string }[] }): Response {
  return Response.json({
    files: files.map(({ path }) => ({ path, uploadMode: LFS.test(path) ? "lfs" : "regular" })),
  });
}
