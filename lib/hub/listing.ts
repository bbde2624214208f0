import { datasetInfo, type ListFileEntry, listFiles, modelInfo } from "npm:@huggingface/hub@^2.17.5";
import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";
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
/** The Hub gives a thousand entries on each. */
const MOST_PAGES = 2000;
const LONGEST_LINK = 4096;

/** The commit that the repository's revision stands for now. */
export async function commitOf(repo: Repo, settings: HubSettings, signal?: AbortSignal): Promise<string> {
  const params = {
    name: repo.name,
    revision: repo.revision,
    hubUrl: settings.endpoint,
    fetch: apiFetch(settings, repo, signal),
  };
  const { sha } = await understood(
    repo,
    () =>
      repo.type === "model"
        ? modelInfo({ ...params, additionalFields: ["sha"] })
        : datasetInfo({ ...params, additionalFields: ["sha"] }),
  );
  if (typeof sha === "string" && COMMIT.test(sha)) return sha;
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
    fetch: bounded(repo, settings, apiFetch(settings, repo, signal)),
  });
  return await understood(repo, () => checkedFiles(repo, entries));
}

async function checkedFiles(repo: Repo, entries: AsyncIterable<ListFileEntry>): Promise<RemoteFile[]> {
  const files: RemoteFile[] = [];
  for await (const { type, path, size: smallSize, oid, lfs } of entries) {
    if (type !== "file") continue;
    checkFileName(path, repo);
    const [size, hash] = [lfs?.size ?? smallSize, lfs?.oid ?? oid];
    if (!Number.isSafeInteger(size) || size < 0 || typeof hash !== "string" || !HASH.test(hash)) {
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

/** A listing's pages may each name a next one without end, and anywhere. */
function bounded(repo: Repo, { endpoint }: HubSettings, fetchPage: typeof fetch): typeof fetch {
  let pages = 0;
  return async (input, init) => {
    if (++pages > MOST_PAGES) {
      throw new UserError(`${repoLabel(repo)}: lists more than ${MOST_PAGES} pages of files`);
    }
    const { origin } = new URL(input instanceof Request ? input.url : input);
    if (origin !== new URL(endpoint).origin) {
      throw new UserError(
        `${repoLabel(repo)}: the listing of ${endpoint} goes on at ${origin}: not followed`,
      );
    }
    const response = await fetchPage(input, init);
    if ((response.headers.get("link")?.length ?? 0) > LONGEST_LINK) {
      throw new UserError(
        `${repoLabel(repo)}: the Hub names a next page in more than ${LONGEST_LINK} characters`,
      );
    }
    return response;
  };
}

/** What the library throws where an answer is not as it expects is the answer's fault. */
async function understood<T>(repo: Repo, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof UserError) throw error;
    const reason = shorten((error as Error).message, 200);
    throw new UserError(`${repoLabel(repo)}: the Hub's answer is not as expected: ${reason}`);
  }
}
