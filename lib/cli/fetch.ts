import { UserError } from "../errors.ts";
import { resolveDataset, resolveModel, type ResolveOptions } from "../hub/hub.ts";
import { parseRepo } from "../hub/repo.ts";
import { shorten } from "../text/json.ts";
import { createLogger } from "../report/log.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { splitOwnWords } from "./words.ts";

/** `simper fetch` */
export const fetch: Command = {
  usage: "OWNER/NAME[@REVISION] [--repo_type=TYPE] [--splits=NAMES] [--config=NAME]",
  about:
    "It goes to the cache that Python's huggingface_hub uses, and only what is missing there is fetched.",
  options: [
    { name: "repo_type", value: "TYPE", doc: "model (the default) or dataset." },
    { name: "splits", value: "NAMES", doc: "Splits of a data set, such as train,test; by default all." },
    { name: "config", value: "NAME", doc: "Configuration of a data set; by default the default one." },
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { positionals, options } = splitOwnWords(words, fetch);
  const type = options.get("repo_type") ?? "model";
  const usage = `expected: simper fetch ${fetch.usage}`;
  if (type !== "model" && type !== "dataset") {
    throw new UserError(`--repo_type: expected model or dataset, found ${shorten(type)}`, 2);
  }
  if (positionals.length !== 1) throw new UserError(usage, 2);
  const [name] = positionals;
  if (!parseRepo(name, type)) throw new UserError(`${name}: no name of the Hub; ${usage}`, 2);
  const progress = progressLine({ logLevel: "info" });
  const log = createLogger("info", (text) => progress.write(text));
  const how: ResolveOptions = {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  };
  try {
    const [splits, config] = [options.get("splits")?.split(","), options.get("config")];
    print(
      await (type === "model" ? resolveModel(name, how) : resolveDataset(name, { ...how, splits, config })),
    );
  } finally {
    progress.finish();
  }
  return 0;
}
