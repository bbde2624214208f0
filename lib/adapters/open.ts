/** A folder of adapters, as PEFT saves them. */
import { dirname, join } from "node:path";
import { modulePattern, namesFitting } from "../config/name_pattern.ts";
import { nearest, UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { show } from "../text/json.ts";
import { shapeOfPart } from "../parameters/parameter.ts";
import { isFloatDtype } from "../safetensors/dtype.ts";
import { type Checkpoint, openSafetensors, withPrefix } from "../safetensors/read.ts";
import { statOf } from "../files/stat_of.ts";
import { readTextFile } from "../files/whole_file.ts";
import { namesOfAdapter } from "./adapt.ts";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../hub/model_files.ts";
import { type AdapterConfig, parseAdapterConfig } from "./adapter_config.ts";
import { ALL_LINEAR, linearModules, moduleOf } from "./modules.ts";
import { type AdapterPlan, endsWith, rankOf } from "./settings.ts";

/** What PEFT's files have before the names of transformers' class. */
export const PREFIX = "base_model.model.";

/** Adapters that are open for reading, by the names of `namesOfAdapter` and of parameters that were trained whole. */
export interface OpenAdapter extends AdapterPlan, Checkpoint {
  folder: string;
  /** Of the weights and of their configuration. */
  files: string[];
  config: AdapterConfig;
}

/** Whether a folder is one of adapters. */
export const isAdapter = async (folder: string): Promise<boolean> =>
  await statOf(join(folder, ADAPTER_CONFIG)) !== undefined;

/** @throws {UserError} as `parseAdapterConfig`, and where there is none. */
export async function readAdapterConfig(folder: string): Promise<AdapterConfig> {
  const path = join(folder, ADAPTER_CONFIG);
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(
      `${path}: cannot be read: expected a folder of adapters, as PEFT and use_peft: true save them: ${error.message}`,
    );
  });
  return parseAdapterConfig(text, path);
}

/**
 * Opens a folder of adapters.
 * @throws {UserError} for files that are missing, of another kind of PEFT's, or hold what has no place.
 */
export async function openAdapter(folder: string): Promise<OpenAdapter> {
  const config = await readAdapterConfig(folder);
  const path = join(folder, ADAPTER_WEIGHTS);
  if (!await statOf(path) && await statOf(join(folder, "adapter_model.bin"))) {
    throw new UserError(
      `${folder}: found only adapter_model.bin: pickled files are not read, because loading one can run any ` +
        "code. Load the adapter with PEFT and save_pretrained() it",
    );
  }
  const file = await openSafetensors(path);
  try {
    const adapter = { ...contentOf(file, path, config), folder, config };
    await checkFinite(adapter, path);
    return adapter;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Elements that are read at a time. */
const PIECE = 2 ** 22;

/** One number that is none spoils a whole matrix. */
async function checkFinite({ tensors, readF32 }: Checkpoint, path: string): Promise<void> {
  for (const [name, { shape, dtype }] of tensors) {
    if (!isFloatDtype(dtype)) continue;
    const elements = shape.reduce((product, n) => product * n, 1);
    for (let first = 0; first < elements; first += PIECE) {
      const values = await readF32(name, first, Math.min(PIECE, elements - first));
      const at = values.findIndex((value) => !Number.isFinite(value));
      if (at < 0) continue;
      throw new UserError(`${path}: ${PREFIX}${name}: holds ${values[at]}, expected finite numbers`);
    }
  }
}

function contentOf(file: Checkpoint, path: string, config: AdapterConfig): AdapterPlan & Checkpoint {
  const reader = withPrefix(file, PREFIX);
  const names = [...reader.tensors.keys()];
  const embedding = names.find((name) => /\.lora_embedding_[AB]/.test(name));
  if (embedding !== undefined) {
    throw new UserError(`${path}: ${show(embedding)}: adapters of an embedding are not supported`);
  }
  const factor = /\.(lora_[AB]\.weight|lora_magnitude_vector)$/;
  const modules = new Set(names.filter((name) => factor.test(name)).map((name) => name.replace(factor, "")));
  const saved = names.filter((name) => !factor.test(name));
  const unknown = [...file.tensors.keys()].find((name) => !name.startsWith(PREFIX)) ??
    saved.find((name) =>
      !config.modulesToSave.some((end) => moduleOf(name).endsWith(end)) || /\.lora_/.test(name)
    );
  if (unknown !== undefined) {
    throw new UserError(
      `${path}: ${show(unknown)} is no tensor of LoRA, and of no module of modules_to_save`,
    );
  }
  const missing = [...modules].flatMap((module) => {
    const { a, b, magnitude } = namesOfAdapter(module);
    return config.settings.dora ? [a, b, magnitude] : [a, b];
  }).find((name) => !reader.tensors.has(name));
  if (missing !== undefined) throw new UserError(`${path}: ${PREFIX}${missing}: missing`);
  if (modules.size === 0) throw new UserError(`${path}: holds no adapter`);
  const magnitude = names.find((name) => name.endsWith(".lora_magnitude_vector"));
  if (!config.settings.dora && magnitude !== undefined) {
    throw new UserError(`${path}: ${show(magnitude)} is of DoRA, and use_dora of ${ADAPTER_CONFIG} is false`);
  }
  for (const module of modules) {
    const { a, b } = namesOfAdapter(module);
    const [ofA, ofB] = [reader.tensors.get(a)!.shape[0], reader.tensors.get(b)!.shape[1]];
    const rank = rankOf(config.settings, module);
    if (ofA === rank && ofB === rank) continue;
    throw new UserError(
      `${path}: ${module}: rank ${ofA} in lora_A, ${ofB} in lora_B, and ${rank} in ${ADAPTER_CONFIG} ` +
        `(${rank === config.settings.rank ? "r" : "rank_pattern"})`,
    );
  }
  const { close } = file;
  const { settings, record } = config;
  const files = [path, join(dirname(path), ADAPTER_CONFIG)];
  return { ...reader, files, close, modules, saved: new Set(saved), settings, record };
}

/** Names and shapes that are told. */
const SHOWN = 6;

/**
 * Checks that adapters are those of a model.
 * @param net of the model, before adapters were added.
 * @throws {UserError} naming what does not fit.
 */
export function checkAdapter({ folder, config, modules, saved, tensors }: OpenAdapter, net: Net): void {
  const linear = new Set(linearModules(net));
  const shapes = new Map(
    net.parameters.flatMap((spec) => spec.parts.map((part) => [part.name, shapeOfPart(spec, part)] as const)),
  );
  const problems: string[] = [];
  const expect = (name: string, shape: readonly (number | "r")[]) => {
    const { shape: found, dtype } = tensors.get(name)!;
    const fits = found.length === shape.length &&
      shape.every((expected, i) => expected === "r" ? found[i] > 0 : found[i] === expected);
    if (!fits) problems.push(`${name}: shape [${found}], expected [${shape}]`);
    else if (!isFloatDtype(dtype)) problems.push(`${name}: dtype ${dtype}, expected F32, F16 or BF16`);
  };
  for (const module of modules) {
    const shape = shapes.get(`${module}.weight`);
    if (!shape || !linear.has(module)) {
      if (isHead(module, net)) {
        problems.push(`${module}: adapters of the head are not available`);
        continue;
      }
      const near = nearest(module, linear);
      problems.push(`${module}: no linear layer of the model${near ? ` (is it ${near}?)` : ""}`);
      continue;
    }
    const { a, b, magnitude } = namesOfAdapter(module);
    expect(a, ["r", shape[1]]);
    expect(b, [shape[0], "r"]);
    if (config.settings.dora) expect(magnitude, [shape[0]]);
  }
  for (const name of saved) {
    const shape = shapes.get(name);
    if (shape) expect(name, shape);
    else problems.push(`${name}: no parameter of the model`);
  }
  const base = config.base === undefined ? "" : `\nthey were trained on ${show(config.base)}`;
  const refuse = (what: string, problems: readonly string[]) => {
    if (problems.length === 0) return;
    const more = problems.length > SHOWN ? `\n  and ${problems.length - SHOWN} more` : "";
    throw new UserError(
      `${folder}: ${what}:\n  ${problems.slice(0, SHOWN).join("\n  ")}${more}${base}`,
      1,
      "MODEL_INVALID",
    );
  };
  refuse("the adapters are not of this model", problems);
  refuse(`${ADAPTER_WEIGHTS} has not the modules that ${ADAPTER_CONFIG} names`, [
    ...targetProblems(config, modules, [...linear]),
    ...config.modulesToSave.flatMap((end) => {
      const fitting = [...shapes.keys()].filter((name) => moduleOf(name).endsWith(end));
      const lacking = fitting.filter((name) => !saved.has(name));
      return (fitting.length > 0 ? lacking : [end]).map((name) => `${name}: missing, of modules_to_save`);
    }),
  ]);
}

const isHead = (module: string, { outputEmbeddings }: Net): boolean =>
  module === "lm_head" || outputEmbeddings.parts.some(({ name }) => moduleOf(name) === module);

/** PEFT would begin modules anew that are named and not there, and leave out those that are not named. */
function targetProblems(
  { targets, excluded = [], layers, modulesToSave }: AdapterConfig,
  modules: ReadonlySet<string>,
  linear: readonly string[],
): string[] {
  if (targets === undefined) return [];
  const fitting = (names: string | readonly string[]) =>
    typeof names !== "string"
      ? new Set(linear.filter((module) => names.some((end) => endsWith(module, end))))
      : ALL_LINEAR.test(names)
      ? new Set(linear)
      : namesFitting([modulePattern(names)], linear)[0] ?? new Set<string>();
  const [named, without] = [fitting(targets), fitting(excluded)];
  const isNamed = (module: string) =>
    named.has(module) && !without.has(module) && !modulesToSave.some((end) => module.endsWith(end)) &&
    (!layers?.length || layers.includes(Number(/\.(\d+)\./.exec(module)?.[1])));
  return linear.filter((module) => isNamed(module) !== modules.has(module)).map((module) =>
    modules.has(module) ? `${module}: not in target_modules` : `${module}: missing, of target_modules`
  );
}
