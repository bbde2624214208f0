/** Repositories and settings for tests against the loopback Hub. */
import { join } from "node:path";
import type { HubSettings } from "../../lib/hub/hub.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";
import { Hub, type HubFile, type HubOptions, type HubRepo } from "./server.ts";

/** Text of a file, or pseudo-random bytes of a length. */
export function file(path: string, content: string | number, lfs = false): HubFile {
  if (typeof content === "string") return { path, bytes: new TextEncoder().encode(content), lfs };
  const bytes = new Uint8Array(content);
  for (let i = 0, state = content; i < content; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return { path, bytes, lfs };
}

/** A model in two shards, with files that training does not read beside it. */
export function shardedModel(name = "org/tiny"): HubRepo {
  const [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  return {
    type: "model",
    name,
    files: [
      file("config.json", '{"model_type": "llama"}'),
      file("tokenizer.json", "{}"),
      file("tokenizer_config.json", "{}"),
      file("generation_config.json", "{}"),
      file("chat_template.jinja", "{{ messages }}"),
      file("model.safetensors.index.json", JSON.stringify({ weight_map: { a: one, b: two, c: two } })),
      file(one, 300_000, true),
      file(two, 200_000, true),
      file("README.md", "# A model"),
      file("pytorch_model.bin", 100_000, true),
      file("original/consolidated.00.safetensors", 100_000, true),
    ],
  };
}

/** The files of `shardedModel` that training reads. */
export const NEEDED = [
  "chat_template.jinja",
  "config.json",
  "generation_config.json",
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

export const neededBytes = ({ files }: HubRepo) =>
  files.filter(({ path }) => NEEDED.includes(path)).reduce((sum, { bytes }) => sum + bytes.length, 0);

/** A loopback Hub, a cache folder, and settings for both with short waits. */
export interface World {
  hub: Hub;
  folder: string;
  settings: HubSettings;
}

/** A test with a Hub and an empty cache. */
export function hubTest(
  name: string,
  options: () => HubOptions,
  body: (world: World) => Promise<void>,
): void {
  Deno.test(name, () =>
    withTemporaryFolder(async (folder) => {
      await using hub = new Hub(options());
      const settings = {
        endpoint: hub.endpoint,
        cache: join(folder, "hub"),
        offline: false,
        stall: 300,
        backoff: 1,
      };
      await body({ hub, folder, settings });
    }));
}
