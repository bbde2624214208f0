import { join } from "node:path";
import { readConfig } from "../config/parse.ts";
import { UserError } from "../errors.ts";
import { tablesText } from "../evaluation/report.ts";
import { checkEngine } from "../gpu/device.ts";
import { createLogger, isShown } from "../report/log.ts";
import {
  compareLogs,
  compareRun,
  compareStart,
  compareWeights,
  type Finding,
} from "../reproduction/check.ts";
import { lookHere, type LookOptions } from "../reproduction/here.ts";
import { CONFIG, readPack, readRunLog, readRunProvenance } from "../reproduction/pack.ts";
import { packedTensors } from "../reproduction/weights.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { splitWords } from "./words.ts";

/** `simper check-run` */
export const checkRun: Command = {
  usage: "PACK [--output_dir=RUN] [--take_tiles] [--json] [--key=value ...]",
  about:
    "Says what differs here from the run of a pack: versions, adapter, files, template, first tokens and " +
    "labels; and, of a run that was made from it, the log and the weights. Keys are those of the pack's " +
    "config.yaml, for a model or data that lie elsewhere. The exit status is 1 where anything differs that " +
    "the weights follow from.",
  options: [
    { name: "output_dir", value: "RUN", doc: "The output_dir of a run to compare with the pack's." },
    {
      name: "take_tiles",
      doc:
        "Compute matrix products on this adapter as the pack's run did, in this check and in all runs from now on.",
    },
    { name: "json", doc: "Print JSON in place of a table." },
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { positionals, options, overrides } = splitWords(words, checkRun);
  if (positionals.length !== 1) throw new UserError(`expected: simper check-run ${checkRun.usage}`, 2);
  const { folder, pack, log: packLog } = await readPack(positionals[0]);
  const { config } = await readConfig(join(folder, CONFIG), overrides, ["json", "take_tiles"]);
  checkEngine();
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (text) => progress.write(text));
  if (!isShown("warning", config.logLevel)) stop.answer({});
  const events: LookOptions = {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
    packed: pack.run.config,
    ...(options.has("take_tiles") && { tiles: pack.kernels }),
  };
  const findings: Finding[] = [];
  try {
    const runFolder = options.get("output_dir");
    // First, since it costs the least to be told of a folder that holds no run.
    const runLog = runFolder === undefined ? undefined : await readRunLog(runFolder);
    findings.push(...compareStart(pack, await lookHere(config, events)));
    if (runFolder !== undefined) {
      const provenance = await readRunProvenance(runFolder);
      findings.push(
        ...provenance ? compareRun(pack, provenance) : [],
        ...compareLogs(packLog, runLog!),
        ...compareWeights(pack.tensors, await packedTensors(runFolder, events.onProgress)),
      );
    }
  } finally {
    progress.finish();
  }
  const isEqual = findings.every(({ isEqual, decides }) => isEqual || !decides);
  if (options.has("json")) print(JSON.stringify({ isEqual, findings }, null, 2));
  else print(tableOf(findings, isEqual));
  return isEqual ? 0 : 1;
}

function tableOf(findings: readonly Finding[], isEqual: boolean): string {
  const rows = findings.map(({ what, pack, here, isEqual, decides }) => [
    isEqual ? "equal" : decides ? "DIFFERS" : "differs",
    what,
    pack,
    isEqual && here === pack ? "" : here,
  ]);
  const title = isEqual
    ? "All that the weights follow from is as in the pack"
    : "Not all that the weights follow from is as in the pack";
  return tablesText([{ title, head: ["", "what", "pack", "here"], rows }]);
}
