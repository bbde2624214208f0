import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";

/** Where the Hub is and how to reach it. */
export interface HubSettings {
  /** Without a slash at the end. */
  endpoint: string;
  /** Folder of the cache, as Python's huggingface_hub lays it out. */
  cache: string;
  /** Sent to the endpoint's own origin only, and never shown. */
  token?: string;
  /** Nothing but the cache is used. */
  offline: boolean;
  /** Milliseconds without a byte after which a connection is given up and made anew. */
  stall: number;
  /** Milliseconds before the first further attempt; each one after that waits twice as long. */
  backoff: number;
}

const STALL = 30_000;
const BACKOFF = 500;

/**
 * The settings that Python's huggingface_hub would have here: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN or the file
 * that `hf auth login` writes, HF_HUB_OFFLINE.
 */
export async function hubSettings(): Promise<HubSettings> {
  const { env } = process;
  const home = withHome(env.HF_HOME || join(env.XDG_CACHE_HOME || "~/.cache", "huggingface"));
  const token = env.HF_TOKEN ||
    await readFile(withHome(env.HF_TOKEN_PATH || join(home, "token")), "utf8").catch(() => "");
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  if (!/^https?:$/.test(URL.parse(endpoint)?.protocol ?? "")) {
    throw new UserError(
      `HF_ENDPOINT: expected an address such as https://huggingface.co, found ${show(endpoint)}`,
      2,
    );
  }
  return {
    endpoint,
    cache: withHome(env.HF_HUB_CACHE || join(home, "hub")),
    token: checkToken(token.trim()) || undefined,
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ""),
    stall: STALL,
    backoff: BACKOFF,
  };
}

/** What no header can carry would be shown by the error about it. */
export function checkToken(token: string): string {
  if (/^[\x21-\x7e]*$/.test(token)) return token;
  throw new UserError(
    "the token for the Hub: expected letters and digits (hf_...), found other characters in it",
    2,
  );
}

function withHome(path: string): string {
  return path.replace(/^~(?=$|[\\/])/, () => process.env.HOME || process.env.USERPROFILE || ".");
}
