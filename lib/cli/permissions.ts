import { UserError } from "../errors.ts";

/** What each permission is for. */
const PURPOSES: Readonly<Record<string, string>> = {
  read: "the model, data and the cache are read",
  write: "output_dir and the cache are written",
  net: "models and data are fetched from the Hugging Face Hub",
  env: "the environment says where the cache is and how the Hub is reached",
  sys: "the machine says how much memory and disk it has",
  run: "setup looks for the driver, and installs it",
  import: "the program's own files are loaded",
};

/** What Deno says of a permission that it was not given, as a message to who started it; undefined for any other error. */
export function missingPermission(error: unknown): UserError | undefined {
  if (!(error instanceof Deno.errors.NotCapable)) return;
  const [, kind, what] = /^Requires (\w+) access(?: to "?(.*?)"?)?, run again with/.exec(error.message) ?? [];
  if (kind === undefined) return new UserError(error.message);
  // Of what Deno guards by itself it asks for all permissions, which nobody should give.
  if (kind === "all") return new UserError(`${what}: the system keeps that place for itself`);
  const isHere = kind === "net" && what?.startsWith("127.0.0.1");
  const purpose = isHere ? "the live report is served there" : PURPOSES[kind];
  return new UserError(
    `no permission for ${kind} access${what ? ` to ${what}` : ""}${purpose ? ` (${purpose})` : ""}: ` +
      `run Deno with --allow-${kind}`,
  );
}
