/** A folder of adapters, as PEFT saves them. */
import { dirname, join } from "node:path";
import { nearest, UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { show } from "../json.ts";
import { shapeOfPart } from "../parameters/parameter.ts";
import { isFloatDtype } from "../safetensors/dtype.ts";
import { type Checkpoint, openSafetensors, withPrefix } from "../safetensors/read.ts";
import { statOf } from "../stat_of.ts";
import { readTextFile } from "../whole_file.ts";
import { namesOfAdapter } from "./adapt.ts";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../hub/model_files.ts";
import { type AdapterConfig, parseAdapterConfig } from "./adapter_config.ts";
import { linearModules, moduleOf } from "./modules.ts";
import type { AdapterPlan } from "./settings.ts";

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
      `${folder}: found only adapter_model.bin: pickled files are not read, because loading one can run any code. Load the ` +
        "adapter with PEFT and save_pretrained() it",
    );
  }
  const file = await openSafetensors(path);
  try {
    return { ...contentOf(file, path, config), folder, config };
  } catch (error) {
    await file.close();
    throw error;
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
      const near = nearest(module, linear);
      problems.push(`${module}: no linear layer of the model${near ? ` (is it ${near}?)` : ""}`);
      continue;
    }
    const { a, b, magnitude } = namesOfAdapter(module);
    expect(a, ["r", shape[1]]);
    expect(b, [shape[0], "r"]);
    if (config.settings.dora) expect(magnitude, [shape[0]]);
    const [rank, other] = [tensors.get(a)!.shape[0], tensors.get(b)!.shape[1]];
    if (rank !== other) problems.push(`${module}: rank ${rank} in lora_A, ${other} in lora_B`);
  }
  for (const name of saved) {
    const shape = shapes.get(name);
    if (shape) expect(name, shape);
    else problems.push(`${name}: no parameter of the model`);
  }
  if (problems.length === 0) return;
  const more = problems.length > SHOWN ? `\n  and ${problems.length - SHOWN} more` : "";
  throw new UserError(
    `${folder}: the adapters are not of this model:\n  ${problems.slice(0, SHOWN).join("\n  ")}${more}` +
      (config.base === undefined ? "" : `\nthey were trained on ${show(config.base)}`),
    1,
    "MODEL_INVALID",
  );
}

/**
 * Adapters to go on with, as far as training follows them.
 * @throws {UserError} for what only merging follows, and as `checkAdapter`.
 */
export function checkTrainable(adapter: OpenAdapter, net: Net): void {
  checkAdapter(adapter, net);
  const { folder, config, modules, tensors } = adapter;
  const { rank } = config.settings;
  const ranks = [...modules].map((module) => tensors.get(namesOfAdapter(module).a)!.shape[0]);
  const other = ranks.find((found) => found !== rank);
  if (config.hasPatterns || other !== undefined) {
    throw new UserError(
      `${join(folder, ADAPTER_CONFIG)}: ${
        config.hasPatterns
          ? "rank_pattern or alpha_pattern"
          : `r is ${rank}, and an adapter has rank ${other}`
      }: adapters of different ranks or alphas are not trained here; \`simper merge\` merges them`,
    );
  }
}
