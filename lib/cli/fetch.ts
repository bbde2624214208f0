/** `deno task fetch REPO[@REVISION] [--repo_type=dataset] [--splits=train,test] [--config=NAME]` */
import { parseArgs } from "node:util";
import { UserError } from "../errors.ts";
import { resolveDataset, resolveModel, type ResolveOptions } from "../hub/hub.ts";
import { parseRepo } from "../hub/repo.ts";
import { createLogger } from "../report/log.ts";
import { main } from "./main.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";

const USAGE =
  "expected: deno task fetch OWNER/NAME[@REVISION] [--repo_type=model|dataset] [--splits=train,test] " +
  "[--config=NAME]";

await main(async (stop) => {
  const { positionals, values } = readArguments();
  const type = values.repo_type;
  if (positionals.length !== 1 || (type !== "model" && type !== "dataset")) throw new UserError(USAGE, 2);
  const [name] = positionals;
  if (!parseRepo(name, type)) throw new UserError(`${name}: no name of the Hub; ${USAGE}`, 2);
  const progress = progressLine({ logLevel: "info" });
  const log = createLogger("info", (text) => progress.write(text));
  const options: ResolveOptions = {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  };
  try {
    const folder = type === "model"
      ? await resolveModel(name, options)
      : await resolveDataset(name, { ...options, splits: values.splits?.split(","), config: values.config });
    print(folder);
  } finally {
    progress.finish();
  }
  return 0;
});

function readArguments() {
  try {
    return parseArgs({
      args: Deno.args,
      allowPositionals: true,
      options: {
        repo_type: { type: "string", default: "model" },
        splits: { type: "string" },
        config: { type: "string" },
      },
    });
  } catch (error) {
    throw new UserError(`${(error as Error).message}; ${USAGE}`, 2);
  }
}
