import { randomUUID } from "node:crypto";
import { copyFile, lstat, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { statOf } from "../files/stat_of.ts";
import type { RemoteFile } from "./listing.ts";
import { COMMIT, type Repo } from "./repo.ts";

/**
 * The part of the cache that belongs to one repository, laid out as Python's huggingface_hub does: refs/REVISION
 * holds a commit, snapshots/COMMIT/PATH is a link to blobs/HASH.
 */
export class RepoCache {
  readonly folder: string;
  /** Held by the one process that fetches. */
  readonly lock: string;

  constructor(cache: string, readonly repo: Repo) {
    const name = [`${repo.type}s`, ...repo.name.split("/")].join("--");
    this.folder = join(cache, name);
    this.lock = join(cache, ".locks", name, "simper.lock");
  }

  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  get blobs(): string {
    return join(this.folder, "blobs");
  }

  blob(file: RemoteFile): string {
    return join(this.blobs, file.hash);
  }

  /** Where a file grows; the name is not Python's, which could write to the same file at the same time. */
  partial(file: RemoteFile): string {
    return `${this.blob(file)}.simper.incomplete`;
  }

  /** The commit that the revision stood for when it was last looked up, here or from Python. */
  async knownCommit(): Promise<string | undefined> {
    const { revision } = this.repo;
    if (COMMIT.test(revision)) return revision;
    const commit = (await readFile(this.#ref(), "utf8").catch(() => "")).trim();
    return COMMIT.test(commit) ? commit : undefined;
  }

  async rememberCommit(commit: string): Promise<void> {
    if (await this.knownCommit() === commit) return;
    // Of two processes that get here, each renames its own.
    const temporary = `${this.#ref()}.${randomUUID()}.tmp`;
    await mkdir(dirname(temporary), { recursive: true });
    await writeFile(temporary, commit);
    await rename(temporary, this.#ref());
  }

  /** Whether the snapshot holds the file, whole. */
  async has(file: RemoteFile, commit: string): Promise<boolean> {
    return await sizeOf(join(this.snapshot(commit), file.path)) === file.size;
  }

  /** Puts a blob that is there into the snapshot. */
  async link(file: RemoteFile, commit: string): Promise<void> {
    const path = join(this.snapshot(commit), file.path);
    await mkdir(dirname(path), { recursive: true });
    if (await lstat(path).catch(() => undefined)) await rm(path);
    try {
      await symlink(relative(dirname(path), this.blob(file)), path);
    } catch (error) {
      // Windows without the right to make links: the snapshot then holds a copy.
      if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
      await copyFile(this.blob(file), path);
    }
  }

  #ref(): string {
    return join(this.folder, "refs", ...this.repo.revision.split("/"));
  }
}

/** Bytes of a file, links followed, or undefined where there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return (await statOf(path))?.size;
}
