import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";

/** Kinds of repositories that a run reads. */
export type RepoType = "model" | "dataset";

/** A repository of the Hub at a revision. */
export interface Repo {
  type: RepoType;
  /** `owner/name`. */
  name: string;
  /** A branch, a tag or a commit. */
  revision: string;
}

const NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;
/** What names a file of data that is not there, rather than a repository. */
const DATA_FILE = /\.(jsonl?|parquet|csv|txt|arrow|ya?ml)(\.gz)?$/i;
const MAX_NAME = 96;
const MAX_REVISION = 200;

/** A commit in full. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** `owner/name` or `owner/name@revision`, or undefined where `text` has another form and so is a path. */
export function parseRepo(text: string, type: RepoType, revision?: string): Repo | undefined {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  const isName = NAME.test(name) && !/--|\.\.|[-.](\/|$)/.test(name) && name.length <= MAX_NAME;
  if (!isName || DATA_FILE.test(name)) return undefined;
  const written = at < 0 ? undefined : text.slice(at + 1);
  if (written !== undefined && revision !== undefined && written !== revision) {
    throw new UserError(
      `${shorten(text)}: the revision is given twice, here and as ${revision}: keep one`,
      2,
    );
  }
  return { type, name, revision: checkRevision(written ?? revision ?? "main", text) };
}

/** The repository as a message names it. */
export function repoLabel({ type, name, revision }: Repo): string {
  return `${type} ${name}${revision === "main" ? "" : `@${revision}`}`;
}

/** The repository's page at the endpoint. */
export function repoPage(endpoint: string, { type, name }: Pick<Repo, "type" | "name">): string {
  return `${endpoint}/${type === "model" ? "" : "datasets/"}${name}`;
}

/**
 * Refuses a file name of a repository that would leave the folder it is written to.
 * @throws {UserError} naming the file.
 */
export function checkFileName(path: unknown, repo: Repo): asserts path is string {
  const parts = typeof path === "string" ? path.split("/") : [];
  // deno-lint-ignore no-control-regex
  const isPlain = typeof path === "string" && !/[\\\x00-\x1f]|^[A-Za-z]:/.test(path);
  if (isPlain && parts.every((part) => part !== "" && part !== "." && part !== "..")) return;
  throw new UserError(
    `${repoLabel(repo)}: lists a file named ${show(path)}, which would be written outside ` +
      "of its folder: nothing was fetched. Do not trust this repository",
  );
}

/** Names that Windows keeps for devices, whatever follows a dot. */
const DEVICE = /^(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(\.|$)/i;

/**
 * Whether a name with slashes is that of a file on every system. Windows takes dots and spaces off a name's end, a
 * colon for a stream within the file, and some names for devices.
 */
export function isPortable(path: string): boolean {
  return path.split("/").every((part) => !DEVICE.test(part) && !/[. ]$|[<>:"|?*]/.test(part));
}

function checkRevision(revision: string, text: string): string {
  const parts = revision.split("/");
  const isName = revision.length <= MAX_REVISION && /^[A-Za-z0-9_][\w./+-]*$/.test(revision);
  if (isName && parts.every((part) => part !== "" && !part.startsWith("."))) return revision;
  throw new UserError(
    `${shorten(text)}: expected a branch, tag or commit after the @, found ${show(revision)}`,
    2,
  );
}
