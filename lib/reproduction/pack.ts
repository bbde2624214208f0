/** A run's reproduction pack: what another needs to get the same weights, and to see what is different. */
import { mkdir, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { stringify } from "npm:yaml@^2.9.1";
import { describeDivision, type Division, UNDIVIDED } from "../checkpoint/division.ts";
import { METRICS, REPORT, RESULTS, TRAINER_STATE } from "../checkpoint/names.ts";
import type { Provenance } from "../checkpoint/provenance.ts";
import { UserError } from "../errors.ts";
import { isDeep, isObject, matches, show } from "../text/json.ts";
import { isTuningRecord } from "../gpu/tuning.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { RunFacts } from "../report/run_report.ts";
import { formatFigure } from "../report/run_report.ts";
import { statOf } from "../files/stat_of.ts";
import type { LogEntry } from "../training/log_entry.ts";
import { readTextFile, throwUnwritable, writeWhole } from "../files/whole_file.ts";
import { type PackedTensor, packedTensors } from "./weights.ts";

/** Files of a pack. */
export const [PACK, CONFIG, LOG] = ["pack.json", "config.yaml", "log.jsonl"] as const;

const FORMAT = 1;

/** The content of pack.json. */
export interface Pack extends Provenance {
  format: typeof FORMAT;
  /** Names of the data files, in the order of their hashes in `run`. */
  dataFiles: string[];
  /** The results of the run, but for times. */
  results: Record<string, number>;
  /** The step of the weights. */
  weightsStep: number;
  tensors: Record<string, PackedTensor>;
}

/** A pack that was read. */
export interface ReadPack {
  folder: string;
  pack: Pack;
  log: LogEntry[];
}

/**
 * Writes the pack of a finished run into `folder`: pack.json, config.yaml, log.jsonl and README.md. Paths of this
 * machine become names.
 *
 * @param runFolder the run's `output_dir`.
 * @throws {UserError} where it holds no finished run, or one of a version that did not write down where its weights
 * come from, or `folder` holds something else.
 */
export async function writePack(runFolder: string, folder: string, onProgress?: OnProgress): Promise<void> {
  const facts = await readJson<RunFacts>(join(runFolder, REPORT), NO_RUN);
  const state = await readJson<Record<string, unknown>>(join(runFolder, TRAINER_STATE), NO_RUN);
  const results = await readJson<Record<string, number>>(join(runFolder, RESULTS), NO_RUN);
  const { provenance } = facts;
  if (!provenance) {
    throw new UserError(
      `${
        join(runFolder, REPORT)
      }: does not say where the weights come from: it was written by an earlier version of simper`,
    );
  }
  await checkFolder(folder);
  const log = (Array.isArray(state.log_history) ? state.log_history as LogEntry[] : []).map(withoutTimes);
  const config = portable(provenance);
  const pack: Pack = {
    format: FORMAT,
    ...provenance,
    run: { ...provenance.run, config },
    dataFiles: facts.dataFiles.map(({ path }) => basename(path)),
    results: withoutTimes(results),
    weightsStep: Number(
      "load_best_model_at_end" in config && config.load_best_model_at_end && state.best_global_step ||
        state.global_step,
    ),
    tensors: await packedTensors(runFolder, onProgress),
  };
  await mkdir(folder, { recursive: true }).catch(throwUnwritable(folder));
  await writeWhole(folder, CONFIG, configText(config));
  await writeWhole(folder, LOG, log.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
  await writeWhole(folder, "README.md", readme(facts, pack, log));
  // Last: a folder that has it holds a whole pack.
  await writeWhole(folder, PACK, `${JSON.stringify(pack, null, 1)}\n`);
}

/**
 * Reads a pack.
 * @param path its folder, or its pack.json.
 * @throws {UserError} where it is none.
 */
export async function readPack(path: string): Promise<ReadPack> {
  const folder = (await statOf(path))?.isFile() ? join(path, "..") : path;
  const pack = await readJson<Pack>(
    join(folder, PACK),
    "expected the folder of a pack, as simper export-run writes it",
  );
  if (pack.format !== FORMAT) {
    throw new UserError(
      `${join(folder, PACK)}: expected format ${FORMAT}, found ${
        show(pack.format)
      }: it was written by another version of simper`,
    );
  }
  const isWhole = matches(pack, SHAPE) && isTuningRecord(pack.kernels) &&
    matches(Object.values(pack.tensors), [TENSOR]) && matches(pack.run.test ?? [], [""]) &&
    [pack.run.model, pack.run.reference ?? {}].every((files) => matches(Object.values(files), [""])) &&
    matches([pack.run.date ?? "", pack.run.loss ?? ""], [""]) && isDivision(pack.division);
  if (!isWhole) throw new UserError(`${join(folder, PACK)}: not as simper writes it: was it changed?`);
  return { folder, pack, log: await readLog(join(folder, LOG)) };
}

const RESPONSE = { tokens: 0, promptLength: 0, ids: [0], labels: [0], sha256: "" };
const TENSOR = { dtype: "", shape: [0], sha256: "", sample: [0] };
/** What every pack has, and more. */
const SHAPE = {
  ...{ version: "", engine: "", platform: "", device: "", steps: 0, trainPairs: 0, weightsStep: 0 },
  run: { config: {}, model: {}, tokenizer: "", template: "", rules: 0, train: [""] },
  pairs: [{ index: 0, responses: [RESPONSE] }],
  dataFiles: [""],
  tensors: {},
};

/** The entries of a log, a line each. @throws {UserError} naming the line that is none. */
export async function readLog(path: string): Promise<LogEntry[]> {
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(`${path}: cannot be read: ${error.message}`);
  });
  return text.split("\n").filter((line) => line !== "").map((line, i) => {
    try {
      const entry = JSON.parse(line);
      if (isObject(entry) && Number.isSafeInteger(entry.step)) return withoutTimes(entry as LogEntry);
    } catch {
      // It is told below.
    }
    throw new UserError(`${path}:${i + 1}: expected an entry of a log, a JSON object with a step`);
  });
}

/** The log of a run that goes on or has ended. */
export const readRunLog = (runFolder: string): Promise<LogEntry[]> => readLog(join(runFolder, METRICS));

/** How a run was made; nothing where its folder does not say it. */
export async function readRunProvenance(
  runFolder: string,
): Promise<Pick<Provenance, "run" | "division"> | undefined> {
  const path = join(runFolder, REPORT);
  if (!await statOf(path)) return;
  const { provenance } = await readJson<Partial<RunFacts>>(path, NO_RUN);
  return isObject(provenance?.run?.config) && isDivision(provenance.division) ? provenance : undefined;
}

const isDivision = (found: unknown) => found === undefined || matches(found, UNDIVIDED);

const NO_RUN = "expected the output_dir of a finished run";

/** Figures that follow from the machine's speed. */
const isTime = (name: string) => /(_per_second|_runtime)$/.test(name);

function withoutTimes<T extends Record<string, number>>(figures: T): T {
  return Object.fromEntries(Object.entries(figures).filter(([name]) => !isTime(name))) as T;
}

async function readJson<T>(path: string, otherwise: string): Promise<T> {
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(`${path}: cannot be read: ${error.message}: ${otherwise}`);
  });
  let value: unknown;
  try {
    if (!isDeep(text)) value = JSON.parse(text);
  } catch {
    // It is told below.
  }
  if (isObject(value)) return value as T;
  throw new UserError(`${path}: expected a JSON object: ${otherwise}`);
}

async function checkFolder(folder: string): Promise<void> {
  const found = await statOf(folder);
  if (!found) return;
  const names = found.isDirectory() ? await readdir(folder) : [folder];
  if (names.length === 0 || names.includes(PACK)) return;
  throw new UserError(`--output: ${folder} is no pack and not empty: name another folder`, 2);
}

/** Keys whose values are texts of their own, in which a slash is nothing but a slash. */
const TEXTS = ["prompts", "chat_template"];

/**
 * The keys of the run file as another machine can use them: names in place of paths, and commits of what is on the
 * Hub.
 */
function portable({ run: { config, date }, revisions }: Provenance): Record<string, unknown> {
  const pinned: Record<string, unknown> = Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, TEXTS.includes(key) ? value : withoutPaths(value)]),
  );
  // Of another day, a template that asks for it would say something else.
  if (date !== undefined) pinned.chat_template_date = date;
  const at = (name: unknown, revision: string | null) =>
    revision === null ? name : `${String(name).replace(/@.*$/, "")}@${revision}`;
  if (revisions.model !== null) {
    pinned.model_name_or_path = String(config.model_name_or_path).replace(/@.*$/, "");
    pinned.model_revision = revisions.model;
  }
  for (const [key, of] of [["adapter_name_or_path", "adapter"], ["ref_model", "reference"]] as const) {
    if (pinned[key] !== undefined) pinned[key] = at(pinned[key], revisions[of]);
  }
  if (Array.isArray(pinned.dataset_mixer)) {
    pinned.dataset_mixer = pinned.dataset_mixer.map(([name, share], i) => [
      at(name, revisions.data[i] ?? null),
      share,
    ]);
  }
  return pinned;
}

/** A path from a root, a home or a folder above, as the last of its names; other values stay as they are. */
function withoutPaths(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPaths);
  if (isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutPaths(item)]));
  }
  const isPath = typeof value === "string" && /^(file:|~|\.\.?[\\/]|[A-Za-z]:[\\/]|[\\/])/.test(value);
  return isPath ? value.split(/[\\/]/).findLast((part) => part !== "") ?? value : value;
}

function configText(config: Record<string, unknown>): string {
  // As run files have it: JSON keeps no order of every key.
  const entries = Object.entries(config).map(([key, value]) =>
    key === "dataset_mixer" ? [key, new Map(value as [string, number][])] as const : [key, value] as const
  );
  return stringify(new Map(entries));
}

/** Entries of the log that README.md shows. */
const SHOWN = 5;

/** That bits may follow from more than one program or machine. */
const resumedText = ({ resumed = [] }: Pack) =>
  resumed.map(({ step, version, device, division }) =>
    ` It went on from a checkpoint after ${step} steps, made by simper ${version} on ${device}${
      by(division)
    }.`
  ).join("");

const by = (division: Division | undefined) => division ? `, by ${describeDivision(division)}` : "";

function readme({ name, device }: RunFacts, pack: Pack, log: readonly LogEntry[]): string {
  const entries = log.filter((entry) => "loss" in entry);
  const shown = entries.length > SHOWN + 1 ? [...entries.slice(0, SHOWN), entries.at(-1)!] : entries;
  const figures = ["loss", "grad_norm", "learning_rate"];
  const cell = (text: string) => text.replace(/[|`\s]+/g, " ");
  const rows = shown.map((entry) =>
    [entry.step, ...figures.map((figure) => formatFigure(entry[figure]))].join(" | ")
  );
  return `# Reproduction pack of ${cell(name)}

Made by simper ${pack.version} on ${cell(pack.engine)}, ${cell(pack.platform)}, ${cell(device)}${
    by(pack.division)
  }.${resumedText(pack)}

- \`config.yaml\`: the run file, every key with its value, defaults too; paths of the machine it ran on are names.
- \`pack.json\`: hashes of model, tokenizer, chat template and data, commits of what is on the Hub, versions, adapter,
  how products were computed there, the first tokens and labels of the first pairs, and hashes of the resulting weights.
- \`log.jsonl\`: the run's log without times.

What differs on another machine, before a run and after it:

\`\`\`sh
simper check-run FOLDER --model_name_or_path=MODEL --take_tiles
simper train FOLDER/config.yaml --model_name_or_path=MODEL --output_dir=RUN
simper check-run FOLDER --model_name_or_path=MODEL --output_dir=RUN
\`\`\`

Keys that name a model or data are only needed where they lie elsewhere than \`config.yaml\` says.

| step | ${figures.join(" | ")} |
| --- | ${figures.map(() => "---").join(" | ")} |
${rows.map((row) => `| ${row} |`).join("\n")}
`;
}
