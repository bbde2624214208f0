import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";

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
  return {
    endpoint: (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, ""),
    cache: withHome(env.HF_HUB_CACHE || join(home, "hub")),
    token: token.trim() || undefined,
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ""),
    stall: STALL,
    backoff: BACKOFF,
  };
}

function withHome(path: string): string {
  return path.replace(/^~(?=$|[\\/])/, () => process.env.HOME || process.env.USERPROFILE || ".");
}
