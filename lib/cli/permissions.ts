import { UserError } from "../errors.ts";

/** What each permission is for. */
const PURPOSES: Readonly<Record<string, string>> = {
  read: "the model, data and the cache are read",
  write: "output_dir and the cache are written",
  net: "models and data are fetched from the Hugging Face Hub",
  env: "the environment says where the cache is and how the Hub is reached",
  sys: "the machine says how much memory and disk it has",
  run: "setup looks for the driver, and installs it",
  ffi:
    "Dawn, which webgpu_engine asks for, and MPI between ranks are native code that permissions do not bind",
  import: "the program's own files are loaded",
};

/** What Deno says of a permission that it was not given. */
const REQUIRES = /Requires (\w+) access(?: to "?(.*?)"?)?, run again with the --allow-[\w-]+ flag/;

/**
 * A permission that Deno was not given, as a message to who started it; undefined for any other error. What else was
 * made of Deno's own words on the way, the Hub's answer for one, says less.
 */
export function missingPermission(error: unknown): UserError | undefined {
  const isOurs = error instanceof UserError;
  if (!isOurs && !(error instanceof Deno.errors.NotCapable)) return;
  const [, kind, what] = REQUIRES.exec(error.message) ?? [];
  if (kind === undefined) return isOurs ? undefined : new UserError(error.message);
  // Of what Deno guards by itself it asks for all permissions, which nobody should give.
  if (kind === "all") return new UserError(`${what}: the system keeps that place for itself`);
  return new UserError(lackOf(kind, what));
}

/** Says what permission is missing, what for, and how it is given. */
export function lackOf(kind: string, what?: string): string {
  const isHere = kind === "net" && what?.startsWith("127.0.0.1");
  const purpose = isHere ? "what is shown in the browser is served there" : PURPOSES[kind];
  return `no permission for ${kind} access${what ? ` to ${what}` : ""}${purpose ? ` (${purpose})` : ""}: ` +
    `run Deno with --allow-${kind}`;
}
