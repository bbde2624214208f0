/** `deno task train [CONFIG] [--key=value ...] [--profile=FILE]` */
import { splitArguments } from "../config/overrides.ts";
import { readConfig } from "../config/parse.ts";
import { UserError } from "../errors.ts";
import { openUpload } from "../hub/upload.ts";
import { createLogger, isShown } from "../report/log.ts";
import { formatFigure } from "../report/run_report.ts";
import { chromeTrace, profileTable } from "../report/profile.ts";
import { Progress } from "../report/progress.ts";
import { checkOutputFolder, saveRun } from "../save.ts";
import { train } from "../train.ts";
import { main } from "./main.ts";
import { tokeniseLine } from "./tokenise.ts";
import { transferBar } from "./transfer.ts";

const DEFAULT_CONFIG = new URL("../../configs/tiny.yaml", import.meta.url).pathname;
const encoder = new TextEncoder();
const writeError = (text: string) => void Deno.stderr.writeSync(encoder.encode(text));

await main(async () => {
  const { positionals, overrides: options } = splitArguments(Deno.args);
  const isProfile = (option: string) => /^--profile(=|$)/.test(option);
  const overrides = options.filter((option) => !isProfile(option));
  const profile = options.findLast(isProfile)?.slice("--profile=".length);
  if (profile === "") {
    throw new UserError("--profile: expected a file for the trace, as in --profile=trace.json", 2);
  }
  if (positionals.length > 1) {
    throw new UserError(`expected one run file and --key=value, found ${positionals.join(" and ")}`, 2);
  }
  const { config, ignored } = await readConfig(positionals[0] ?? DEFAULT_CONFIG, overrides);
  let progress: Progress | undefined;
  const bar = transferBar();
  const line = tokeniseLine();
  const log = createLogger(config.logLevel, (text) => {
    line.clear();
    (progress ?? bar).write(text);
  });
  for (const line of ignored) log.info(line);
  await checkOutputFolder(config);

  const stop = new AbortController();
  const onSignal = () => {
    // Whoever asks twice does not want to wait; the checkpoints that there are are whole.
    if (stop.signal.aborted) Deno.exit(130);
    log.warning("stopping after this step, with a checkpoint; another signal stops at once");
    stop.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);

  const upload = config.pushToHub ? await openUpload(config) : undefined;
  const outcome = await train(config, {
    signal: stop.signal,
    readsOnly: true,
    log: (level, message) => log[level](message),
    fetched: (transfer) => isShown("warning", config.logLevel) && bar.update(transfer),
    tokenised: (...figures) => isShown("warning", config.logLevel) && line.update(...figures),
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
  }).catch((error) => {
    // Before the first step there is nothing to save.
    if (error !== stop.signal.reason) throw error;
  });
  if (!outcome) return 130;
  progress?.finish();
  progress = undefined;
  if (outcome.isStopped) {
    await outcome.destroy();
    log.warning(
      outcome.steps > 0
        ? `stopped after ${outcome.steps} steps: the same command goes on from there`
        : "stopped before the first step",
    );
    return 130;
  }
  const report = await saveRun(outcome);
  await outcome.destroy();

  if (config.logLevel !== "error") {
    for (const { prompt, before, after } of report.answers) {
      console.log(`prompt: ${prompt}\n  before: ${before}\n  after:  ${after}`);
    }
    const start = report.state.log_history.find((entry) => entry.step === 0);
    for (const [name, value] of Object.entries(report.results)) {
      const changed = /^eval_(loss|rewards|logps)/.test(name) && start?.[name] !== undefined;
      const before = changed ? `${formatFigure(start[name])} -> ` : "";
      console.log(`${name.padEnd(26)} ${before}${formatFigure(value)}`);
    }
    console.log(`saved in ${config.outputDir}`);
  }
  if (upload) {
    await upload.push(config.outputDir);
    log.info(`uploaded to ${upload.page}`);
  }
  return 0;
});
