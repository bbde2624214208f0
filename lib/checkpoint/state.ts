import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { CollapseState } from "../training/collapse.ts";
import { UserError } from "../errors.ts";
import type { FiguresState } from "../training/figures.ts";
import { isTuningRecord, type TuningRecord } from "../gpu/tuning.ts";
import { isDeep, isObject, matches, MOST_LEVELS, show } from "../text/json.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { TrainerState } from "./trainer_state.ts";
import { readDate } from "../text/calendar_date.ts";
import { statOf } from "../files/stat_of.ts";
import { type Division, UNDIVIDED } from "./division.ts";
import { RUN_STATE } from "./names.ts";

/** A run's configuration and the hashes of all that it reads. */
export interface Fingerprint {
  /** The keys of the run file, without secrets. */
  config: Record<string, unknown>;
  /** SHA-256 of the model's files, by name. */
  model: Record<string, string>;
  /** Likewise of another model that the loss compares with. */
  reference?: Record<string, string>;
  /** SHA-256 of what token ids follow from, and of the text of the chat template. */
  tokenizer: string;
  template: string;
  /** The date that the template is told, where it asks for it. */
  date?: string;
  /** Of how rows become tokens. */
  rules: number;
  /** SHA-256 of the data files of each split that is read, in order. */
  train: string[];
  test?: string[];
  /** SHA-256 of the source of a script's own loss. */
  loss?: string;
}

/** What a run goes on from, beside its tensors and its log: the content of run_state.json. */
export interface RunState {
  /** Of this file; another one is refused. */
  format: typeof FORMAT;
  /** This program's version. */
  version: string;
  /** Optimizer steps done. */
  step: number;
  /**
   * The next pair: passes over the data begun before it, and its place in the order of its own. Both follow from
   * `step`, as the order does from the seed and the pass.
   */
  position: { epoch: number; pair: number };
  /** The keys of the run file, and the hashes of what it names. */
  run: Fingerprint;
  /** The adapter, and how products are computed on it: other kernels may round differently. */
  device: string;
  kernels: TuningRecord;
  /** How several ranks divided the work: sums of other parts round differently. */
  division?: Division;
  /** The steps that the run was to have when it began: its reference's sums are of the batches that those made. */
  begunSteps?: number;
  figures: FiguresState;
  collapse: CollapseState;
  /** Answers to `prompts` before the first step. */
  answers: string[];
}

export const FORMAT = 2;
/** A log of a million steps has less. */
const MAX_BYTES = 2 ** 30;

/** A checkpoint as it was found, but for its tensors. */
export interface SavedRun {
  folder: string;
  state: RunState;
  trainerState: TrainerState;
}

/**
 * Reads run_state.json and trainer_state.json of a checkpoint.
 * @throws {UserError} where one is missing or not what this program writes.
 */
export async function readSavedRun(folder: string): Promise<SavedRun> {
  if (!(await statOf(folder))?.isDirectory()) {
    throw new UserError(`resume_from_checkpoint: ${folder}: no such folder`, 2);
  }
  const state = await readJson(
    join(folder, RUN_STATE),
    `${folder} is no checkpoint that this program can go on from`,
  );
  if (state.format !== FORMAT) {
    throw new UserError(
      `${join(folder, RUN_STATE)}: expected format ${FORMAT}, found ${
        show(state.format)
      }: it was written by ` +
        `another version of simper (${show(state.version)})`,
    );
  }
  const isWhole = Number.isSafeInteger(state.step) && isTuningRecord(state.kernels) &&
    matches(state, SHAPE) &&
    (state.division === undefined || matches(state.division, UNDIVIDED)) &&
    [state.begunSteps, (state as unknown as RunState).figures.sequenceTokens]
      .every((value) => ["number", "undefined"].includes(typeof value)) &&
    isDate((state as unknown as RunState).run.date);
  if (!isWhole) {
    throw new UserError(`${join(folder, RUN_STATE)}: not as this program writes it: was it changed?`);
  }
  const trainerState = await readJson(join(folder, "trainer_state.json"), `${folder} is not whole`);
  if (trainerState.global_step !== state.step || !isLog(trainerState.log_history)) {
    throw new UserError(
      `${join(folder, "trainer_state.json")}: not of the same step as ${RUN_STATE}: was it changed?`,
    );
  }
  return {
    folder,
    state: state as unknown as RunState,
    trainerState: trainerState as unknown as TrainerState,
  };
}

async function readJson(path: string, otherwise: string): Promise<Record<string, unknown>> {
  let found: unknown;
  try {
    if ((await stat(path)).size > MAX_BYTES) throw new Error(`larger than ${MAX_BYTES} bytes`);
    const bytes = await readFile(path);
    if (isDeep(bytes)) throw new Error(`it has more than ${MOST_LEVELS} levels of JSON`);
    found = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}: ${otherwise}`);
  }
  if (!isObject(found)) throw new UserError(`${path}: expected an object: ${otherwise}`);
  return found;
}

const SUMS = { pairs: 0, chosen: 0, rejected: 0 };
/** What every run state has, and more: a list stands for any number of such items. */
const SHAPE = {
  version: "",
  step: 0,
  run: { config: {}, model: {}, tokenizer: "", template: "", train: [""] },
  device: "",
  kernels: {},
  figures: {
    ...{ pairs: 0, tokens: 0, lossSum: 0, flops: 0, seconds: 0 },
    window: { steps: [{ loss: 0 }], pairs: 0, tokens: 0, seconds: 0 },
  },
  collapse: { start: SUMS, recent: [SUMS], isRaised: false, alarms: [{ step: 0, chosen: 0, rejected: 0 }] },
  answers: [""],
};

const isDate = (value: unknown) =>
  value === undefined || (typeof value === "string" && readDate(value) !== undefined);

const isLog = (log: unknown): log is LogEntry[] =>
  Array.isArray(log) && log.every((entry) => isObject(entry) && Number.isSafeInteger(entry.step));
