import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { UserError } from "../errors.ts";
import {
  checkStopped,
  networkError,
  request,
  statusError,
  Timer,
  TryAgain,
  Unreachable,
  withRetries,
} from "./http.ts";
import type { RemoteFile } from "./listing.ts";
import { type Repo, repoLabel, repoPage } from "./repo.ts";
import type { HubSettings } from "./settings.ts";

/** As many tries in a row may bring bytes that were there before, and no other. */
const VAIN_TRIES = 10;

/** What a download tells of itself. */
export interface TransferEvents {
  /** Bytes that were there from an earlier start; negative where they turned out to be of no use. */
  kept: (bytes: number) => void;
  /** Bytes that came now; negative where they must be fetched again. */
  received: (bytes: number) => void;
}

/**
 * Fetches one file to `path`, going on from the bytes that are there. The commit in the address pins the content, so a
 * further range is of the same file; the hash over all of it, with those first bytes, is checked at the end. Never more
 * bytes are written than the listing says.
 *
 * @throws {UserError} where the content is not what the listing says, the disk is full, or the Hub refuses.
 */
export async function download(
  repo: Repo,
  commit: string,
  file: RemoteFile,
  path: string,
  settings: HubSettings,
  events: TransferEvents,
  signal?: AbortSignal,
): Promise<void> {
  const what = `${repoLabel(repo)}: ${file.path}`;
  const url = `${repoPage(settings.endpoint, repo)}/resolve/${commit}/` +
    file.path.split("/").map(encodeURIComponent).join("/");
  const growing = await Growing.open(path, file, what, events, signal);
  let [furthest, vain] = [growing.length, 0];
  try {
    await withRetries(settings, what, async (onProgress) => {
      // A server that begins anew each time, and breaks off each time, would be asked for ever.
      vain = growing.furthest > furthest ? 1 : vain + 1;
      furthest = growing.furthest;
      if (vain > VAIN_TRIES) {
        throw new Unreachable(
          `${what}: ${VAIN_TRIES} tries did not come beyond ${furthest} of ${file.size} bytes. The same ` +
            "command tries further",
        );
      }
      if (!growing.isWhole) await receive(growing, repo, url, settings, onProgress, signal);
      await growing.verify();
    }, { signal });
  } finally {
    await growing.close();
  }
}

/** Takes in what one request gives. */
async function receive(
  growing: Growing,
  repo: Repo,
  url: string,
  settings: HubSettings,
  onProgress: () => void,
  stopped?: AbortSignal,
): Promise<void> {
  const timer = new Timer(stopped);
  timer.start(settings.stall);
  const { file, what } = growing;
  try {
    const headers = new Headers({ "accept-encoding": "identity" });
    if (growing.length > 0) headers.set("range", `bytes=${growing.length}-`);
    const { response, linkedEtag } = await request(settings, url, { headers, signal: timer.signal });
    const { body } = response;
    if (linkedEtag !== undefined && linkedEtag !== file.hash) {
      await body?.cancel();
      throw new UserError(
        `${what}: expected content ${file.hash}, and the Hub offers ${linkedEtag}: try again later`,
      );
    }
    if (!response.ok) {
      await body?.cancel();
      if (response.status !== 416) throw statusError(settings, repo, response);
      await growing.restart();
      throw new TryAgain("the server does not have the range that is missing");
    }
    if (growing.length > 0 && response.status !== 206) await growing.restart();
    const size = announcedSize(response, growing.length);
    if (size !== undefined && size !== file.size) {
      await body?.cancel();
      throw new UserError(
        `${what}: expected ${file.size} bytes as the listing says, and the server announces ${size}`,
      );
    }
    for await (const bytes of body ?? []) {
      timer.start(settings.stall);
      await growing.append(bytes);
      onProgress();
    }
  } catch (error) {
    if (timer.expired) throw new TryAgain(`no byte came for ${settings.stall / 1000} s`);
    throw networkError(error, new URL(url).host);
  } finally {
    timer.stop();
  }
  if (!growing.isWhole) {
    throw new TryAgain(`the connection ended after ${growing.length} of ${file.size} bytes`);
  }
}

/** The whole file's size by the headers of a response that begins at `offset`. */
function announcedSize({ status, headers }: Response, offset: number): number | undefined {
  if (status !== 206) {
    const length = headers.get("content-length");
    return length === null ? undefined : Number(length);
  }
  const match = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "");
  if (!match || Number(match[1]) !== offset) {
    throw new TryAgain("the server sent another range than the one asked for");
  }
  return Number(match[2]);
}

/** A file that grows to its full size, and the hash of what it holds. */
class Growing {
  length = 0;
  /** The most that it ever was. */
  furthest = 0;
  /** Bytes of `length` that were there from before. */
  #kept = 0;
  #hash: Hash;

  private constructor(
    readonly handle: FileHandle,
    readonly file: RemoteFile,
    readonly what: string,
    readonly events: TransferEvents,
  ) {
    this.#hash = newHash(file);
  }

  /** Opens the file at `path`, made if there is none, and reads what it holds. */
  static async open(
    path: string,
    file: RemoteFile,
    what: string,
    events: TransferEvents,
    signal?: AbortSignal,
  ): Promise<Growing> {
    const handle = await open(path, "r+").catch(() => open(path, "w+")).catch((error) => {
      throw diskError(error, what);
    });
    const growing = new Growing(handle, file, what, events);
    const there = Math.min((await handle.stat()).size, file.size);
    const pieces = there > 0 ? createReadStream(path, { end: there - 1 }) : [];
    for await (const bytes of pieces) {
      if (signal?.aborted) await handle.close();
      checkStopped(signal);
      growing.#hash.update(bytes);
      growing.length += bytes.length;
    }
    growing.#kept = growing.furthest = growing.length;
    events.kept(growing.#kept);
    return growing;
  }

  get isWhole(): boolean {
    return this.length === this.file.size;
  }

  async append(bytes: Uint8Array): Promise<void> {
    const { file, what } = this;
    if (this.length + bytes.length > file.size) {
      throw new UserError(
        `${what}: expected ${file.size} bytes as the listing says, and the server sends more`,
      );
    }
    try {
      for (let at = 0; at < bytes.length;) {
        at += (await this.handle.write(bytes, at, bytes.length - at, this.length + at)).bytesWritten;
      }
    } catch (error) {
      throw diskError(error as NodeJS.ErrnoException, what);
    }
    this.#hash.update(bytes);
    this.length += bytes.length;
    this.furthest = Math.max(this.furthest, this.length);
    this.events.received(bytes.length);
  }

  /** Forgets all that was fetched. */
  async restart(): Promise<void> {
    await this.handle.truncate(0);
    this.events.kept(-this.#kept);
    this.events.received(this.#kept - this.length);
    [this.length, this.#kept, this.#hash] = [0, 0, newHash(this.file)];
  }

  /** @throws {UserError} where the content is not the file's; {TryAgain} where bytes from before may be to blame. */
  async verify(): Promise<void> {
    const { size, hash } = this.file;
    // Beyond the size there can only be what an earlier start left of another file.
    await this.handle.truncate(size);
    const found = this.#hash.digest("hex");
    if (found === hash) return;
    const hadKept = this.#kept > 0;
    await this.restart();
    if (hadKept) throw new TryAgain("what an earlier start left was damaged", 0);
    const kind = hash.length === 64 ? "SHA-256" : "git's SHA-1";
    throw new UserError(
      `${this.what}: damaged in transit: expected ${kind} ${hash}, found ${found}. Nothing of it is kept: try again`,
    );
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

function newHash({ hash, size }: RemoteFile): Hash {
  return hash.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`);
}

/** No space, no quota, file too large: Deno gives some of them a code, the others only the system's number. */
const DISK_FULL = /ENOSPC|EDQUOT|EFBIG|\(os error (27|28|122)\)/;

/** A failure to write, in words. */
export function diskError(error: NodeJS.ErrnoException, what: string): Error {
  if (DISK_FULL.test(`${error.code} ${error.message}`)) {
    return new UserError(
      `${what}: the disk is full. What was fetched is kept: make room, or point HF_HOME to another disk, and ` +
        "give the same command again",
    );
  }
  if (error.code === undefined) return error;
  return new UserError(`${what}: the cache cannot be written: ${error.message}`);
}
