import { readConfig } from "../config/parse.ts";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { openUpload } from "../hub/upload.ts";
import { createLogger, isShown, type Logger, printable } from "../report/log.ts";
import { formatFigure, type RunReport } from "../report/run_report.ts";
import { chromeTrace, profileTable } from "../report/profile.ts";
import { Progress } from "../report/progress.ts";
import { checkOutputFolder, saveRun } from "../run/save.ts";
import { train as trainRun } from "../run/train.ts";
import type { Command } from "./command.ts";
import { LiveReport } from "./live.ts";
import { NobodyReads, print, writeError } from "./output.ts";
import { type Stop, STOPPED } from "./stop.ts";
import { tokenizeLine } from "./tokenize.ts";
import { transferBar } from "./transfer.ts";
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
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { file, overrides, names, options } = splitRunWords(words, train);
  const profile = options.get("profile");
  const { config, ignored } = await readConfig(file, overrides, names);
  let progress: Progress | undefined;
  const bar = transferBar();
  const line = tokenizeLine();
  const log = createLogger(config.logLevel, (text) => {
    line.clear();
    (progress ?? bar).write(text);
  });
  for (const line of ignored) log.info(line);
  await checkOutputFolder(config);

  /** What a signal is answered; over the bar, where there is one. */
  const say = (text: string, until?: number) => {
    const shown = `${Deno.stderr.isTerminal() ? "\r\x1b[2K" : ""}warning: ${text}`;
    stop.answer({ text: isShown("warning", config.logLevel) ? shown : undefined, until });
  };
  say("stopping");
  const live = options.has("open") ? new LiveReport(config.outputDir, () => stop.request(), log) : undefined;
  const upload = config.pushToHub ? await openUpload(config) : undefined;
  const outcome = await trainRun(config, {
    signal: stop.signal,
    working: ({ step, totalSteps, until }) => {
      live?.begin();
      stop.isCareful = true;
      say(`stopping after this step, ${step} of ${totalSteps}, with a checkpoint`, until);
    },
    readsOnly: true,
    log: (level, message) => log[level](message),
    fetched: (transfer) => isShown("warning", config.logLevel) && bar.update(transfer),
    tokenized: (...figures) => isShown("warning", config.logLevel) && line.update(...figures),
    profiled: profile === undefined ? undefined : (found, step) => {
      log.info(`step ${step}, kernel by kernel:\n${profileTable(found.kernels)}`);
      try {
        Deno.writeTextFileSync(profile, chromeTrace(found, `${config.modelNameOrPath}, step ${step}`));
      } catch (error) {
        log.warning(`--profile: ${(error as Error).message}`);
      }
    },
    logged: (entry) => log.debug(JSON.stringify(entry)),
    stepped: ({ step, startStep, totalSteps, ...figures }) => {
      progress ??= new Progress(totalSteps, {
        write: writeError,
        isTerminal: Deno.stderr.isTerminal(),
        logLevel: config.logLevel,
        loggingSteps: config.loggingSteps,
        startStep,
        columns: Deno.stderr.isTerminal() ? Deno.consoleSize().columns : undefined,
      });
      progress.update(step, figures);
    },
  });
  progress?.finish();
  progress = undefined;
  try {
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
    const report = await saveRun(outcome, { signal: stop.signal });
    printReport(report, log);
    if (upload) {
      stop.isCareful = false;
      say(`stopping: the result is in ${config.outputDir}, and not on the Hub`);
      stop.signal.throwIfAborted();
      await upload.push(config.outputDir);
      log.info(`uploaded to ${upload.page}`);
    }
    return stop.signal.aborted ? STOPPED : 0;
  } finally {
    await live?.end();
    await outcome.destroy();
  }
}

/** What goes on with a run that was stopped: with overwrite_output_dir the same command would begin anew. */
function sameCommand({ overwriteOutputDir }: TrainConfig): string {
  return `the same command${overwriteOutputDir ? " with --overwrite_output_dir=false" : ""}`;
}

/** Shows what a run was for; that nobody reads it takes nothing away from the result. */
function printReport({ config, state, results, answers }: RunReport, log: Logger): void {
  if (config.logLevel === "error") return;
  try {
    for (const { prompt, before, after } of answers) {
      print(printable(`prompt: ${prompt}\n  before: ${before}\n  after:  ${after}`));
    }
    const start = state.log_history.find((entry) => entry.step === 0);
    for (const [name, value] of Object.entries(results)) {
      const changed = /^eval_(loss|rewards|logps)/.test(name) && start?.[name] !== undefined;
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
