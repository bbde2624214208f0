/** What a run is, so that a checkpoint of another one is not taken for its own. */
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { FIELDS, keyOf, KEYS, type TrainConfig } from "../config/schema.ts";
import { configEntries } from "../config/write.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { rememberedHashes, sha256 } from "../data/file_hash.ts";
import { RULES } from "../data/pairs.ts";
import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";
import { checkFunction } from "../losses/check.ts";
import { type Loss, sourceOf } from "../losses/loss.ts";
import { followsFrom } from "../losses/losses.ts";
import type { Prepared } from "../planning/prepare.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { HashedFile } from "../data/hash.ts";
import { VERSION } from "../program/version.ts";
import { RUN_STATE } from "./names.ts";
import { describeDivision, differsInStagesAlone, type Division } from "./division.ts";
import type { Fingerprint, SavedRun } from "./state.ts";

/** The files of the model that a run begins with, hashed; what was hashed before is not read again. */
export async function hashModel(
  modelFolder: string,
  weights: readonly string[],
  onProgress?: OnProgress,
): Promise<HashedFile[]> {
  const files = [...weights, join(modelFolder, "config.json")];
  return await rememberedHashes(files, cacheFolder(), "hashing the model", onProgress);
}

/** The files of a checkpoint that a run goes on from, hashed, by name. */
export async function hashCheckpoint(
  folder: string,
  onProgress?: OnProgress,
): Promise<Record<string, string>> {
  const names = (await readdir(folder)).filter((name) => name === RUN_STATE || name.endsWith(".safetensors"));
  const paths = names.toSorted().map((name) => join(folder, name));
  const files = await rememberedHashes(paths, cacheFolder(), "hashing the checkpoint", onProgress);
  return Object.fromEntries(files.map(({ path, sha256 }) => [basename(path), sha256]));
}

export function fingerprint(
  config: TrainConfig,
  { tokenizer, train, test, loss }: Prepared,
  modelFiles: readonly HashedFile[],
  referenceFiles?: readonly HashedFile[],
): Fingerprint {
  const hashes = (files: readonly HashedFile[]) => files.map(({ sha256 }) => sha256);
  const byName = (files: readonly HashedFile[]) =>
    Object.fromEntries(files.map(({ path, sha256 }) => [basename(path), sha256]));
  return {
    config: configRecord(config),
    model: byName(modelFiles),
    ...(referenceFiles && { reference: byName(referenceFiles) }),
    tokenizer: tokenizer.fingerprint,
    template: sha256(tokenizer.chatTemplate ?? ""),
    ...(tokenizer.templateDate !== undefined && { date: tokenizer.templateDate }),
    rules: RULES,
    train: hashes(train.files),
    ...(test && { test: hashes(test.files) }),
    ...(!followsFrom(config, loss) && { loss: sha256(lossText(loss)) }),
  };
}

/** What a loss is: its source, and of a function what it gives too, since values from outside of it are in no text. */
const lossText = (loss: Loss) => sourceOf(loss) + ("of" in loss ? JSON.stringify(checkFunction(loss)) : "");

/** Mappings as lists of pairs, since JSON has none that keep their order for every key. */
export function configRecord(config: TrainConfig): Record<string, unknown> {
  return Object.fromEntries(
    configEntries(config).map(([key, value]) => [key, value instanceof Map ? [...value] : value]),
  );
}

/** A key that has another value, and why it matters where that is not plain. */
interface ChangedKey {
  key: string;
  there: unknown;
  now: unknown;
  hint?: string;
}

/** The keys of two runs that differ and that the weights follow from, as `Fingerprint.config` has them. */
export function changedKeys(now: Record<string, unknown>, before: Record<string, unknown>): ChangedKey[] {
  const changed = (field: keyof TrainConfig, hint?: string) => {
    const key = keyOf(field);
    // A run of before there was such a key.
    const [there, here] = [before, now].map((keys) => key in keys ? keys[key] : KEYS[field].default);
    return same(here, there) ? [] : [{ key, there, now: here, hint }];
  };
  /** Whether a key above 0 makes another do nothing, in both runs. */
  const overrules = (key: string) => Number(now[key]) > 0 && Number(before[key]) > 0;
  const idle = overrules("warmup_steps") ? "warmupRatio" : undefined;
  const found: ChangedKey[] = FIELDS.filter((field) => !KEYS[field].mayChange && field !== idle)
    .flatMap((field) => changed(field));
  if (!same(shares(now), shares(before))) {
    found.push({ key: "dataset_mixer", there: shares(before), now: shares(now) });
  }
  const hint = ": the learning rate of every step follows from it";
  if (!overrules("max_steps")) found.push(...changed("numTrainEpochs", hint));
  return [...found, ...changed("maxSteps", hint)];
}

/**
 * Refuses a checkpoint of a run that had other values where they matter.
 * @throws {UserError} (status 2) naming each.
 */
export function checkConfig(config: TrainConfig, { folder, state }: SavedRun): void {
  const changed = changedKeys(configRecord(config), state.run.config);
  const mayEndElsewhere = isOpenEnded(config);
  const problems = changed.filter(({ hint }) => hint === undefined || !mayEndElsewhere).map((
    { key, there, now, hint = "" },
  ) => `${key}: ${key === "dataset_mixer" ? "shares " : ""}${show(there)} there, ${show(now)} now${hint}`);
  refuse(folder, problems);
}

/** The files that two runs read, and what is made of them, where they differ. */
export function changedFiles(now: Fingerprint, before: Fingerprint): string[] {
  const problems: string[] = [];
  for (const [key, field] of [["model_name_or_path", "model"], ["ref_model", "reference"]] as const) {
    const [files, there] = [now[field] ?? {}, before[field] ?? {}];
    for (const name of new Set([...Object.keys(there), ...Object.keys(files)])) {
      if (files[name] !== there[name]) problems.push(`${key}: ${name} is another file`);
    }
  }
  if (now.tokenizer !== before.tokenizer) problems.push("model_name_or_path: the tokenizer is another");
  if (now.template !== before.template) problems.push("chat_template: the template is another");
  else if (now.date !== before.date) {
    problems.push(
      `chat_template_date: the template was told ${show(before.date)} there, ${show(now.date)} now`,
    );
  }
  if (now.rules !== before.rules) {
    problems.push(
      `rows become other tokens in this version of simper (rules ${show(now.rules)}, there ${
        show(before.rules)
      })`,
    );
  }
  for (const split of ["train", "test"] as const) {
    // A run that now evaluates and did not, or the other way round, has nothing to compare.
    if (now[split] && before[split] && !same(now[split], before[split])) {
      problems.push(`dataset_mixer: the data of the ${split} split are others (by SHA-256)`);
    }
  }
  // Another name is another loss_type, which is told before.
  if (now.loss !== before.loss) problems.push("loss: the loss is another, by its source or by what it gives");
  return problems;
}

/**
 * Refuses a checkpoint of a run that read other files.
 * @throws {UserError} (status 2) naming each.
 */
export function checkFiles(now: Fingerprint, { folder, state }: SavedRun, totalSteps: number): void {
  const problems = changedFiles(now, state.run);
  if (state.step > totalSteps) {
    problems.push(`max_steps: ${totalSteps} steps now, and ${state.step} are done`);
  }
  refuse(folder, problems);
}

/** Differences that are told one by one: a damaged file may have any number. */
const MOST_PROBLEMS = 40;

/**
 * What may give other numbers than an unbroken run, and is no reason to refuse.
 * @param ofStages what another number of a pipeline's stages changes, where nothing else differs.
 */
export function warnings(
  { folder, state }: SavedRun,
  device: string,
  division?: Division,
  ofStages?: string,
): string[] {
  const [before, now] = [describeDivision(state.division), describeDivision(division)];
  const differ = "the numbers may differ from an unbroken run's in their last digits";
  const why = ofStages !== undefined && differsInStagesAlone(state.division, division) ? `: ${ofStages}` : "";
  return [
    ...state.version === VERSION
      ? []
      : [`${folder} is of simper ${state.version}, and this is ${VERSION}: ${differ}`],
    ...state.device === device
      ? []
      : [`${folder} was made on ${state.device}, and this is ${device}: ${differ}`],
    ...before === now ? [] : [`${folder} was made by ${before}, and here it is ${now}: ${differ}${why}`],
  ];
}

function refuse(folder: string, problems: readonly string[]): void {
  if (problems.length === 0) return;
  const shown = problems.slice(0, MOST_PROBLEMS).map((problem) => shorten(problem, 400));
  if (problems.length > shown.length) shown.push(`and ${problems.length - shown.length} more differences`);
  throw new UserError(
    `${folder} is of another run:\n  ${shown.join("\n  ")}\n` +
      "go on with what it had, or start anew with --overwrite_output_dir or in another output_dir",
    2,
    "OUTPUT_REFUSED",
  );
}

/** Whether no learning rate depends on the number of steps: such a run can go on for longer than it was meant to. */
function isOpenEnded({ lrSchedulerType, warmupSteps, warmupRatio }: TrainConfig): boolean {
  const warmsUpForShare = warmupSteps > 0 ? warmupSteps < 1 : warmupRatio > 0;
  return lrSchedulerType.startsWith("constant") && !warmsUpForShare;
}

const shares = (config: Record<string, unknown>) =>
  Array.isArray(config.dataset_mixer) ? config.dataset_mixer.map((entry) => entry?.[1]) : [];

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
