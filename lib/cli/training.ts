/** What the commands that train share. */
import type { TrainConfig } from "../config/schema.ts";
import { entryLine } from "../report/entry_line.ts";
import { isShown, type Logger } from "../report/log.ts";
import { formatDuration, type ProgressLine } from "../report/progress.ts";
import type { TrainOptions } from "../run/options.ts";
import type { Stop } from "./stop.ts";
import { takesEscapeCodes } from "./terminal.ts";

/** Says what a signal is answered from now on; over the bar, where there is one. */
export const answering =
  (stop: Stop, { logLevel }: Pick<TrainConfig, "logLevel">) => (text: string, until?: number): void => {
    const shown = `${takesEscapeCodes(Deno.stderr) ? "\r\x1b[2K" : ""}warning: ${text}`;
    stop.answer({ text: isShown("warning", logLevel) ? shown : undefined, until });
  };

/** Shows the steps of a run and its log, and has a signal end it after the step in hand. */
export function shownTraining(
  { progress, log, stop, say, onBegin }: {
    progress: ProgressLine;
    log: Logger;
    stop: Stop;
    say: ReturnType<typeof answering>;
    /** Before each step. */
    onBegin?: () => void;
  },
): Pick<TrainOptions, "onSubmit" | "onEntry" | "onStep"> {
  let totalSteps: number | undefined;
  return {
    onSubmit: ({ step, until, pairs, ...work }) => {
      onBegin?.();
      stop.isCareful = true;
      if (totalSteps === undefined) progress.step({ step: step - 1, totalSteps: work.totalSteps });
      totalSteps = work.totalSteps;
      if (pairs) progress.inStep(pairs);
      say(`stopping after this step, ${step} of ${totalSteps}, with a checkpoint`, until);
    },
    onEntry: (entry) => {
      const { columns, secondsLeft = 0 } = progress;
      // On a terminal the line below says it.
      const saysLeft = columns === undefined && secondsLeft > 0 && entry.step !== totalSteps;
      const left = saysLeft ? `${formatDuration(secondsLeft)} left` : undefined;
      log.info(entryLine(entry, { totalSteps, left, columns }));
    },
    onStep: (figures) => progress.step(figures),
  };
}
