import { type CompareOptions, compareRuns, type RunInHand } from "../comparison/compare.ts";
import { findings, reportHtml, reportJson, reportOf, tablesOf } from "../comparison/report.ts";
import { readComparison } from "../config/comparison.ts";
import { COMPARISON_KEYS } from "../config/comparison_keys.ts";
import { tablesText } from "../evaluation/report.ts";
import { checkEngine } from "../gpu/device.ts";
import { unitOf } from "../losses/loss.ts";
import { lossOf } from "../losses/losses.ts";
import { createLogger, printable } from "../report/log.ts";
import { formatDuration } from "../report/progress.ts";
import { writeWhole } from "../files/whole_file.ts";
import { wrap } from "../text/wrap.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import { type Stop, STOPPED } from "./stop.ts";
import { answering, shownTraining } from "./training.ts";
import { splitRunWords } from "./words.ts";

/** Of sentences: as wide as the tables are. */
const COLUMNS = 110;

/** `simper compare` */
export const compare: Command = {
  usage: "[CONFIG] [--json] [--sweep={KEY: [VALUE, ...]}] [--seeds=[N, ...]] [--key=value ...]",
  about:
    "A run file of simper train will do, with --sweep or --seeds. Each run is left in OUTPUT_DIR/NAME/seed-N " +
    "as simper train would leave it, and the figures of all in compare.json and report.html. The same " +
    "command goes on where it was stopped, and keeps what is finished.",
  options: [
    { name: "json", doc: "Print all figures as JSON, as compare.json has them." },
    ...Object.entries(COMPARISON_KEYS).map(([name, { value, doc }]) => ({ name, value, doc })),
  ],
  takesRunFile: true,
  runFile: "compare-tiny.yaml",
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { file, overrides, names, options } = splitRunWords(words, compare);
  // What stands in a run file besides stands on the command line as an option.
  const own = Object.keys(COMPARISON_KEYS).filter((key) => options.has(key));
  const given = own.map((key) => `--${key}=${options.get(key)}`);
  const comparison = await readComparison(file, [...overrides, ...given], names);
  const { members: [{ runs: [shared] }], outputDir, seeds } = comparison;
  for (const { runs } of comparison.members) runs.forEach(checkEngine);
  const progress = progressLine({ logLevel: shared.logLevel });
  const log = createLogger(shared.logLevel, (text) => progress.write(text));
  for (const line of comparison.ignored) log.info(line);
  const say = answering(stop, shared);
  const goesOn = `the same command${
    shared.overwriteOutputDir ? " with --overwrite_output_dir=false" : ""
  } goes on`;
  say("stopping");
  const events: CompareOptions = {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
    readsOnly: true,
    onRun: (run) => {
      progress.finish();
      say(`stopping: ${goesOn} from here`);
      progress.about = aboutRun(run);
      progress.unit = unitOf(lossOf(run.config));
      log.info(`run ${progress.about}`);
    },
    trainOptions: () => shownTraining({ progress, log, stop, say }),
    onTrained: (_, isKept) => {
      progress.finish();
      say(isKept ? `stopping: ${goesOn} from the last checkpoint` : "stopping once the result is saved");
    },
    onMeasure: () => {
      stop.isCareful = false;
      say(`stopping: ${goesOn} from here`);
    },
  };
  const result = await compareRuns(comparison, events).finally(() => {
    progress.finish();
    progress.about = undefined;
  });
  if (result.isStopped) {
    log.warning(`stopped: ${goesOn} from there`);
    return STOPPED;
  }
  const report = reportOf(result, outputDir, seeds);
  await writeWhole(outputDir, "compare.json", reportJson(report));
  await writeWhole(outputDir, "report.html", reportHtml(report));
  const isJson = options.has("json");
  if (isJson) print(reportJson(report).trimEnd());
  else if (shared.logLevel !== "error") {
    print(tablesText(tablesOf(report)));
    const said = findings(report).flatMap((line) => wrap(line, COLUMNS));
    print(printable(["", ...said, "", `saved in ${outputDir}`].join("\n")));
  }
  return result.members.some(({ failures }) => failures.length > 0) ? 1 : 0;
}

/** `3/21 simpo, seed 43, 12:30 left` */
function aboutRun({ member, config, place, total, secondsLeft }: RunInHand): string {
  const left = secondsLeft === undefined ? "" : `, ${formatDuration(secondsLeft)} left of all`;
  return `${place}/${total} ${member}, seed ${config.seed}${left}`;
}
