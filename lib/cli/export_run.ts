import { join, normalize, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { writePack } from "../reproduction/pack.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { splitOwnWords } from "./words.ts";

/** `simper export-run` */
export const exportRun: Command = {
  usage: "OUTPUT_DIR [--output=FOLDER]",
  about:
    "The pack has every key of the run file, hashes of all that was read, versions, adapter, the first tokens and " +
    "labels, the log, and hashes of the weights: no data, no weights, and no paths of this machine. Its " +
    "folder is printed.",
  options: [{ name: "output", value: "FOLDER", doc: "By default OUTPUT_DIR with -pack behind it." }],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { positionals, options } = splitOwnWords(words, exportRun);
  if (positionals.length !== 1) throw new UserError(`expected: simper export-run ${exportRun.usage}`, 2);
  const given = normalize(join(positionals[0], "."));
  // Of "." and ".." the name is that of the folder.
  const name = /(^|[\\/])\.\.?$/.test(given) ? resolve(given) : given;
  const folder = options.get("output") ?? `${name}-pack`;
  const progress = progressLine({ logLevel: "info" });
  try {
    await writePack(positionals[0], folder, (done) => {
      stop.signal.throwIfAborted();
      progress.update(done);
    });
  } finally {
    progress.finish();
  }
  print(folder);
  return 0;
}
