import { datasetInfo, listFiles, modelInfo } from "npm:@huggingface/hub@^2.17.5";
import { UserError } from "../errors.ts";
import { show } from "../json.ts";
import { apiFetch } from "./http.ts";
import { checkFileName, COMMIT, type Repo, repoLabel } from "./repo.ts";
import type { HubSettings } from "./settings.ts";

/** A file of a repository at a commit. */
export interface RemoteFile {
  /** With slashes, checked: it stays within a folder. */
  path: string;
  /** In bytes. */
  size: number;
  /** SHA-256 of a file in large storage (64 digits), otherwise git's SHA-1 of it (40 digits). */
  hash: string;
}

const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
const MOST_FILES = 1_000_000;

/** The commit that the repository's revision stands for now. */
export async function commitOf(repo: Repo, settings: HubSettings, signal?: AbortSignal): Promise<string> {
  const params = {
    name: repo.name,
    revision: repo.revision,
    hubUrl: settings.endpoint,
    fetch: apiFetch(settings, repo, signal),
  };
  const { sha } = repo.type === "model"
    ? await modelInfo({ ...params, additionalFields: ["sha"] })
    : await datasetInfo({ ...params, additionalFields: ["sha"] });
  if (COMMIT.test(String(sha))) return sha;
  throw new UserError(`${repoLabel(repo)}: expected a commit from the Hub, found ${show(sha)}`);
}

/**
 * Every file of the repository at `commit`.
 * @throws {UserError} for a name that leaves the folder, and for a size or a hash that is none.
 */
export async function filesAt(
  repo: Repo,
  commit: string,
  settings: HubSettings,
  signal?: AbortSignal,
): Promise<RemoteFile[]> {
  const entries = listFiles({
    repo: { type: repo.type, name: repo.name },
    recursive: true,
    revision: commit,
    hubUrl: settings.endpoint,
    fetch: apiFetch(settings, repo, signal),
  });
  const files: RemoteFile[] = [];
  for await (const { type, path, size: smallSize, oid, lfs } of entries) {
    if (type !== "file") continue;
    checkFileName(String(path), repo);
    const [size, hash] = [lfs?.size ?? smallSize, lfs?.oid ?? oid ?? ""];
    if (!Number.isSafeInteger(size) || size < 0 || !HASH.test(hash)) {
      throw new UserError(
        `${repoLabel(repo)}: ${path}: expected a size and a hash from the Hub, found ${show(size)} and ${
          show(hash)
        }`,
      );
    }
    files.push({ path, size, hash });
    if (files.length > MOST_FILES) {
      throw new UserError(`${repoLabel(repo)}: lists more than ${MOST_FILES} files`);
    }
  }
  return files;
}
