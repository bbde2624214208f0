/** What a Hub answers: JSON, headers, names of files, redirects, contents. */
import { join } from "node:path";
import { resolveDataset, resolveModel } from "../../../lib/hub/hub.ts";
import { shardedModel } from "../../hub/fixtures.ts";
import { commitOf, gitHash, hashOf, type HubFile, sha256 } from "../../hub/server.ts";
import { damageBytes, damageText } from "../bytes.ts";
import { damageJson, HOSTILE_NAMES } from "../json.ts";
import type { Random } from "../random.ts";
import type { Target, World } from "../target.ts";

const ENDPOINT = "http://hub.invalid";
const encoder = new TextEncoder();

const HEADERS: Record<string, readonly string[]> = {
  "x-linked-etag": ['""', 'W/"x"', '"../../evil"', "0".repeat(64), "\"'", "x".repeat(5000)],
  "content-length": ["0", "-1", "1e9", "x", "18446744073709551616", "0x10"],
  "content-range": ["bytes 0-0/*", "bytes 5-1/2", "bytes */9", "bytes 0-9/999999999999999999999", "x"],
  "location": [
    "/again",
    "//other.invalid/x",
    "file:///etc/passwd",
    "http://[",
    "https://x.invalid:99999",
    "\\\\x",
    "?",
  ],
  "link": [
    `<${ENDPOINT}/api/models/org/tiny/tree/x?cursor=1>; rel="next"`,
    '<x>; rel="next"',
    "<>",
    '<http://[>; rel="next"',
    "<".repeat(5000),
    'rel="next"',
  ],
  "x-error-code": ["GatedRepo", "RevisionNotFound", "EntryNotFound", "x"],
  "x-error-message": ["no", "x".repeat(5000)],
  "retry-after": ["0", "-1", "x", "Thu, 01 Jan 1970 00:00:00 GMT"],
  "ratelimit": ["t=0", "t=x", '"api";r=0;t=0'],
  "content-type": ["text/html", "application/json; charset=utf-16", "x"],
  "content-encoding": ["gzip", "br", "x"],
};
const STATUSES = [
  200,
  204,
  206,
  301,
  302,
  303,
  304,
  307,
  308,
  400,
  401,
  403,
  404,
  408,
  416,
  418,
  429,
  451,
  500,
  503,
];

/** Files of the repository, one of them perhaps with a name or content of another kind. */
function files(random: Random, { outside }: World): HubFile[] {
  const small = shardedModel().files.map((file) =>
    file.lfs ? { ...file, bytes: file.bytes.slice(0, 999) } : file
  );
  const set = [{ path: "train.jsonl", bytes: encoder.encode("{}") }, {
    path: "test.jsonl",
    bytes: encoder.encode("{}"),
  }];
  const all: HubFile[] = [...small, ...set];
  if (random.chance(0.4)) {
    const name = random.pick([
      ...HOSTILE_NAMES,
      `${outside}/evil`,
      "config.json/evil",
      "data/train.jsonl",
      "train/NUL.parquet",
    ]);
    const renamed = random.pick(all);
    if (random.chance(0.5)) all.push({ ...renamed, path: name });
    else renamed.path = random.chance(0.5) ? name : `${name}/${renamed.path}`;
  }
  if (random.chance(0.3)) {
    const index = all.find(({ path }) => path.endsWith("index.json"));
    if (index) {
      index.bytes = encoder.encode(damageJson(random, JSON.parse(new TextDecoder().decode(index.bytes))));
    }
  }
  return all;
}

function tree(all: readonly HubFile[]): unknown[] {
  return all.map(({ path, bytes, lfs }) => ({
    type: "file",
    oid: gitHash(bytes),
    size: bytes.length,
    path,
    ...(lfs && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } }),
  }));
}

function headersOf(random: Random, base: Record<string, string>, rate: number): Headers {
  const headers = new Headers(base);
  while (random.chance(rate)) {
    const name = random.pick(Object.keys(HEADERS));
    headers.set(name, random.pick(HEADERS[name]));
  }
  return headers;
}

/** Answers as a Hub would, but for what the choices damage. */
function answers(random: Random, all: HubFile[]): typeof fetch {
  const repo = { ...shardedModel(), files: all };
  const commit = commitOf(repo);
  const [rate, jsonRate] = [random.pick([0, 0.1, 0.3]), random.pick([0, 0.3, 1])];
  const json = (value: unknown): Uint8Array<ArrayBuffer> => {
    if (!random.chance(jsonRate)) return encoder.encode(JSON.stringify(value));
    const bytes = encoder.encode(damageJson(random, value));
    return random.chance(0.2) ? damageBytes(random, bytes) : new Uint8Array(bytes);
  };
  const reply = (bytes: Uint8Array<ArrayBuffer> | null, status: number, base: Record<string, string>) => {
    const chosen = random.chance(rate / 2) ? random.pick(STATUSES) : status;
    const body = [204, 205, 304].includes(chosen) ? null : bytes;
    return new Response(body, { status: chosen, headers: headersOf(random, base, rate) });
  };
  return (input) => {
    const { pathname } = new URL(input instanceof Request ? input.url : input);
    const path = decodeURIComponent(pathname);
    if (random.chance(rate / 8)) return Promise.reject(new TypeError("error sending request"));
    if (path.includes("/tree/")) return Promise.resolve(reply(json(tree(all)), 200, {}));
    const resolved = /\/resolve\/[^/]+\/(.+)$/s.exec(path)?.[1];
    const file = all.find((file) => file.path === resolved || path === `/blob/${hashOf(file)}`);
    if (file && path.startsWith("/blob/")) {
      const bytes = random.chance(rate / 4) ? damageBytes(random, file.bytes) : file.bytes;
      return Promise.resolve(reply(bytes, 200, { "content-length": String(bytes.length) }));
    }
    if (file) {
      const hash = hashOf(file);
      return Promise.resolve(reply(null, 302, { location: `/blob/${hash}`, "x-linked-etag": `"${hash}"` }));
    }
    return Promise.resolve(reply(json({ _id: "0", id: "org/tiny", sha: commit, gated: false }), 200, {}));
  };
}

export const hub: Target = {
  name: "hub",
  names: /org--tiny|org\/tiny|hub\.invalid|the Hub|x\.invalid|other\.invalid/,
  make(random, world) {
    const all = files(random, world);
    const isDataset = random.chance(0.3);
    const name = random.chance(0.1)
      ? `org/tiny@${damageText(random, "refs/pr/1", HOSTILE_NAMES)}`
      : "org/tiny";
    const settings = {
      endpoint: ENDPOINT,
      cache: join(world.folder, "hub"),
      offline: false,
      token: "hf_x",
      stall: 300,
      backoff: 0,
    };
    return {
      bytes: all.reduce((sum, { bytes }) => sum + bytes.length, 0),
      run: async () => {
        globalThis.fetch = answers(random, all);
        if (isDataset) {
          await resolveDataset(name, { settings, splits: random.chance(0.5) ? ["train"] : undefined });
        } else await resolveModel(name, { settings });
      },
    };
  },
};
