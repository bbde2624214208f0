import { readConfig } from "../config/parse.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Communicator } from "../distributed/communicator.ts";
import { UserError } from "../errors.ts";
import { checkEngine } from "../gpu/device.ts";
import { openUpload } from "../hub/upload.ts";
import { unitOf } from "../losses/loss.ts";
import { lossOf } from "../losses/losses.ts";
import type { OnProgress } from "../progress/progress.ts";
import { createLogger, type Logger, printable } from "../report/log.ts";
import { formatFigure } from "../report/run_report.ts";
import { checkOutputFolder } from "../run/save.ts";
import type { TrainRun } from "../run/outcome.ts";
import { train as trainRun } from "../run/train.ts";
import type { Command } from "./command.ts";
import { LiveReport } from "./live.ts";
import { asRank } from "./mpi.ts";
import { NobodyReads, print } from "./output.ts";
import { progressLine } from "./progress.ts";
import { type Stop, STOPPED } from "./stop.ts";
import { answering, shownTraining } from "./training.ts";
import { splitRunWords } from "./words.ts";

/** `simper train` */
export const train: Command = {
  usage: "[CONFIG] [--open] [--profile=FILE] [--key=value ...]",
  takesRunFile: true,
  options: [
    { name: "open", doc: "Show the run in the browser while it goes on, as simper watch does." },
    {
      name: "profile",
      value: "FILE",
      doc: "Time the kernels of the second step: a table, and a file for the trace, for chrome://tracing.",
    },
  ],
  run: (words, stop) => asRank((communicator) => runAs(communicator, words, stop)),
};

async function runAs(communicator: Communicator, words: readonly string[], stop: Stop): Promise<number> {
  const isFirst = communicator.rank === 0;
  const { file, overrides, names, options } = splitRunWords(words, train);
  const profile = options.get("profile");
  const { config, ignored } = await readConfig(file, overrides, names);
  checkEngine(config);
  // What all ranks would say the first one says.
  const shown: TrainConfig = isFirst ? config : { ...config, logLevel: "error" };
  const progress = progressLine(shown);
  progress.unit = unitOf(lossOf(config));
  const onProgress: OnProgress = (done) => progress.update(done);
  const logFrom = (level: TrainConfig["logLevel"]) => createLogger(level, (text) => progress.write(text));
  const log = logFrom(shown.logLevel);
  for (const line of ignored) log.info(line);
  if (isFirst) await checkOutputFolder(config);

  const say = answering(stop, shown);
  say("stopping");
  // What comes from the run of another rank than the first is what that one does not say.
  const ofRun = logFrom(config.logLevel);
  await using live = isFirst && options.has("open")
    ? new LiveReport(config.outputDir, () => stop.request(), log)
    : undefined;
  const upload = isFirst && config.pushToHub ? await openUpload(config) : undefined;
  await using outcome = await trainRun(config, {
    signal: stop.signal,
    communicator,
    ...shownTraining({ progress, log, stop, say, onBegin: () => live?.begin() }),
    readsOnly: true,
    onLog: (level, message) => ofRun[level](message),
    onProgress,
    onProfile: profile === undefined ? undefined : ({ table, trace }, step) => {
      log.info(`step ${step}, kernel by kernel:\n${table}`);
      try {
        Deno.writeTextFileSync(profile, trace);
      } catch (error) {
        log.warning(`--profile: ${(error as Error).message}`);
      }
    },
  }).finally(() => progress.finish());
  if (outcome.isStopped) {
    log.warning(
      outcome.steps > 0
        ? `stopped after ${outcome.steps} steps: ${sameCommand(config)} goes on from there`
        : "stopped before the first step",
    );
    return STOPPED;
  }
  say(
    outcome.isKept
      ? `stopping: ${sameCommand(config)} goes on from the last checkpoint`
      : "stopping once the result is saved",
  );
  const results = await outcome.save({ signal: stop.signal }).finally(() => progress.finish());
  if (isFirst) printResults(outcome, results, log);
  if (upload) {
    stop.isCareful = false;
    say(`stopping: the result is in ${config.outputDir}, and not on the Hub`);
    stop.signal.throwIfAborted();
    await upload.push(config.outputDir, onProgress).finally(() => progress.finish());
    log.info(`uploaded to ${upload.page}`);
  }
  return stop.signal.aborted ? STOPPED : 0;
}

/** What goes on with a run that was stopped: with overwrite_output_dir the same command would begin anew. */
function sameCommand({ overwriteOutputDir }: TrainConfig): string {
  return `the same command${overwriteOutputDir ? " with --overwrite_output_dir=false" : ""}`;
}

/** Figures of an evaluation that tell how long it took, or counts. */
const PACE = /runtime|per_second|num_tokens/;

/** Shows what a run was for; that nobody reads it takes nothing away from the result. */
function printResults(
  { config, history, answers }: TrainRun,
  results: Readonly<Record<string, number>>,
  log: Logger,
): void {
  if (config.logLevel === "error") return;
  try {
    for (const { prompt, before, after } of answers) {
      print(printable(`prompt: ${prompt}\n  before: ${before}\n  after:  ${after}`));
    }
    const start = history.find((entry) => entry.step === 0);
    for (const [name, value] of Object.entries(results)) {
      const changed = name.startsWith("eval_") && !PACE.test(name) && start?.[name] !== undefined;
      const before = changed ? `${formatFigure(start[name])} -> ` : "";
      print(`${name.padEnd(26)} ${before}${formatFigure(value)}`);
    }
    print(printable(`saved in ${config.outputDir}`));
  } catch (error) {
    if (error instanceof UserError) {
      log.warning(`${error.message}; the result is saved in ${config.outputDir}`);
    } else if (!(error instanceof NobodyReads)) throw error;
  }
}
