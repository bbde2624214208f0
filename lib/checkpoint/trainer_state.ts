import type { Best } from "../training/best.ts";
import { RESULTS, TRAINER_STATE } from "./names.ts";
import type { Collapse } from "../training/collapse.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { Figures } from "../training/figures.ts";
import type { Prepared } from "../planning/prepare.ts";
import { epochAfter, stepsPerEpoch } from "../training/sampler.ts";
import { stepsOf } from "../training/schedule.ts";
import { areKnown } from "../losses/losses.ts";
import { sortedJson } from "../text/json.ts";
import { writeWhole } from "../files/whole_file.ts";

/** The state of a run with the keys of transformers' `TrainerState`, which reads the file it is saved in. */
export interface TrainerState {
  /** The step of the best evaluation by `metric_for_best_model`. */
  best_global_step: number | null;
  /** Its figure. */
  best_metric: number | null;
  /** The folder of its checkpoint. */
  best_model_checkpoint: string | null;
  /** Passes over the training pairs. */
  epoch: number;
  /** Steps between evaluations. */
  eval_steps: number;
  /** Optimizer steps done. */
  global_step: number;
  /** Always false. */
  is_hyper_param_search: boolean;
  /** Always true. */
  is_local_process_zero: boolean;
  /** Always true. */
  is_world_process_zero: boolean;
  /** The entries of the log. */
  log_history: LogEntry[];
  /** Steps between log entries. */
  logging_steps: number;
  /** All steps of the run. */
  max_steps: number;
  /** Tokens of packed rows. */
  num_input_tokens_seen: number;
  /** Passes over the training pairs that the run makes or begins. */
  num_train_epochs: number;
  /** Steps between checkpoints. */
  save_steps: number;
  /** Alarms, and the name of a loss of a script; transformers passes over them. */
  stateful_callbacks: Record<string, unknown>;
  /** Floating-point operations of training. */
  total_flos: number;
  /** Pairs of a pass. */
  train_batch_size: number;
  /** Always null. */
  trial_name: string | null;
  /** Always null. */
  trial_params: Record<string, unknown> | null;
}

/**
 * The state before the first step.
 *
 * @param maxSteps all optimizer steps of the run.
 * @param perEpoch those of one pass over the training pairs.
 */
export function newTrainerState(config: TrainConfig, maxSteps: number, perEpoch: number): TrainerState {
  return {
    best_global_step: null,
    best_metric: null,
    best_model_checkpoint: null,
    epoch: 0,
    eval_steps: config.evalSteps,
    global_step: 0,
    is_hyper_param_search: false,
    is_local_process_zero: true,
    is_world_process_zero: true,
    log_history: [],
    logging_steps: config.loggingSteps,
    max_steps: maxSteps,
    num_input_tokens_seen: 0,
    num_train_epochs: Math.ceil(maxSteps / perEpoch),
    save_steps: stepsOf(config.saveSteps, maxSteps),
    stateful_callbacks: {},
    total_flos: 0,
    train_batch_size: config.perDeviceTrainBatchSize,
    trial_name: null,
    trial_params: null,
  };
}

/**
 * The state after the steps that `figures` knows.
 *
 * @param bestCheckpoint the folder of the checkpoint of `best`, where there is one.
 */
export function trainerStateOf(
  config: TrainConfig,
  { totalSteps, sampler }: Pick<Prepared, "totalSteps" | "sampler">,
  figures: Figures,
  collapses: readonly Collapse[],
  best: Best | undefined,
  bestCheckpoint: string | null,
): TrainerState {
  const { steps, tokens, flops } = figures.totals;
  return {
    ...newTrainerState(config, totalSteps, stepsPerEpoch(sampler)),
    best_global_step: config.saveStrategy === "no" ? null : best?.step ?? null,
    best_metric: best?.value ?? null,
    best_model_checkpoint: bestCheckpoint,
    global_step: steps,
    epoch: epochAfter(steps, sampler),
    num_input_tokens_seen: tokens,
    total_flos: flops,
    log_history: [...figures.history],
    // transformers reads the state of its callbacks here, and passes over those that it does not know.
    stateful_callbacks: {
      ...collapses.length && { CollapseAlarm: { args: {}, attributes: { collapses: [...collapses] } } },
      ...!areKnown(config.lossType) &&
        { Loss: { args: { name: config.lossType }, attributes: {} } },
    },
  };
}

/** The collapses that a run was warned of. */
export function collapsesOf({ stateful_callbacks: { CollapseAlarm: alarm } }: TrainerState): Collapse[] {
  return (alarm as { attributes: { collapses: Collapse[] } } | undefined)?.attributes.collapses ?? [];
}

/** Writes trainer_state.json. Figures that are no finite numbers become null. */
export async function writeTrainerState(
  folder: string,
  state: TrainerState,
  options?: { flush?: boolean },
): Promise<void> {
  await writeWhole(folder, TRAINER_STATE, sortedJson(state, 2), options);
}

/** What a run's summary is made of. */
export interface RunTotals {
  /** Wall-clock seconds of training, evaluations included. */
  runtime: number;
  /** Pairs trained on, each time they were. */
  samples: number;
  steps: number;
  /** Mean loss over all steps. */
  meanLoss: number;
  epoch: number;
  /** Floating-point operations of training. */
  totalFlos: number;
}

/** The summary as transformers' Trainer makes it, with its rounding (`speed_metrics`). */
export function trainMetrics(
  { runtime, samples, steps, meanLoss, epoch, totalFlos }: RunTotals,
): Record<string, number> {
  const metrics: Record<string, number> = { train_runtime: round(runtime, 4) };
  if (runtime > 0) {
    metrics.train_samples_per_second = round(samples / runtime, 3);
    metrics.train_steps_per_second = round(steps / runtime, 3);
  }
  return { ...metrics, total_flos: totalFlos, train_loss: meanLoss, epoch };
}

/**
 * The summary together with the figures of the evaluation of the weights that are saved, if there was one: the last,
 * or that of step `evaluatedAt`.
 */
export function allResults(
  state: TrainerState,
  metrics: Record<string, number>,
  evaluatedAt?: number,
): Record<string, number> {
  const results = { ...metrics };
  const last = state.log_history.findLast((entry) =>
    "eval_loss" in entry && (evaluatedAt === undefined || entry.step === evaluatedAt)
  );
  for (const key in last) if (key.startsWith("eval_")) results[key] = last[key];
  return results;
}

/** Writes all_results.json. Figures that are no finite numbers become null. */
export async function writeAllResults(folder: string, results: Record<string, number>): Promise<void> {
  await writeWhole(folder, RESULTS, sortedJson(results, 4));
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
