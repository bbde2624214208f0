/** Which modules of a model are adapted, and which trained whole, by PEFT's rules. */
import { modulePattern, namesFitting, PATIENCE } from "../config/name_pattern.ts";
import { nearest, UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { show } from "../text/json.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { type AdapterKeys, type AdapterPlan, endsWith, settingsOf } from "./settings.ts";

/** What PEFT 0.21 adapts where no modules are named (`TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`). */
const USUAL: Readonly<Record<string, readonly string[]>> = {
  falcon: ["query_key_value"],
  gemma: ["q_proj", "v_proj"],
  gemma2: ["q_proj", "v_proj"],
  gemma3_text: ["q_proj", "v_proj"],
  gpt_neox: ["query_key_value"],
  llama: ["q_proj", "v_proj"],
  mistral: ["q_proj", "v_proj"],
  phi: ["q_proj", "v_proj", "fc1", "fc2"],
  qwen2: ["q_proj", "v_proj"],
  qwen3: ["q_proj", "v_proj"],
  stablelm: ["q_proj", "v_proj"],
};

export const ALL_LINEAR = /^all-linear$/i;

/** The module of a parameter. */
export const moduleOf = (parameter: string): string => parameter.replace(/\.(weight|bias)$/, "");

/** The modules that linear layers are made of, each with the matrix that it is rows of. */
export const linearModules = (net: Net): string[] =>
  net.linearWeights.flatMap(({ parts }) => parts.map(({ name }) => moduleOf(name)));

/**
 * What a run file's keys choose of a model.
 * @throws {UserError} (status 2) naming every key that fits nothing, or what cannot be adapted.
 */
export function chooseModules(
  net: Net,
  { modelType }: Pick<ModelConfig, "modelType">,
  keys: AdapterKeys,
): AdapterPlan {
  const problems: string[] = [];
  const saved = savedParameters(net, keys.loraModulesToSave ?? [], problems);
  const whole = new Set([...saved].map(moduleOf));
  const linear = linearModules(net);
  const targets = keys.loraTargetModules ?? USUAL[modelType];
  let found: { modules: string[]; written: string | readonly string[] } = { modules: [], written: [] };
  if (targets === undefined) {
    problems.push(
      `lora_target_modules: missing: PEFT has no usual modules of ${modelType}: name them, such as ` +
        `${namesOf(linear)}, or all-linear`,
    );
  } else found = targetModules(net, linear, targets, problems);
  // As PEFT, which looks for modules_to_save first.
  const modules = found.modules.filter((name) => !whole.has(name));
  if (problems.length === 0 && modules.length === 0) {
    problems.push(
      "lora_target_modules: lora_modules_to_save has all of them, and nothing is left to adapt: name others",
    );
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  return {
    settings: settingsOf(keys),
    modules: new Set(modules),
    saved,
    record: {
      alpha_pattern: {},
      auto_mapping: null,
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      layers_pattern: null,
      layers_to_transform: null,
      lora_alpha: keys.loraAlpha,
      lora_dropout: keys.loraDropout,
      modules_to_save: keys.loraModulesToSave ?? null,
      peft_type: "LORA",
      r: keys.loraR,
      rank_pattern: {},
      target_modules: found.written,
      task_type: keys.loraTaskType,
      use_dora: keys.useDora,
      use_rslora: keys.useRslora,
    },
  };
}

/** The last words of modules' names. */
const lastNames = (modules: readonly string[]) => [
  ...new Set(modules.map((name) => name.slice(name.lastIndexOf(".") + 1))),
];

const namesOf = (modules: readonly string[]) => `[${lastNames(modules).join(", ")}]`;

function targetModules(
  net: Net,
  linear: readonly string[],
  targets: string | readonly string[],
  problems: string[],
): { modules: string[]; written: string | readonly string[] } {
  // As TRL, which makes a text of a list of one.
  const [only] = [targets].flat();
  const isText = typeof targets === "string" || targets.length === 1;
  if (isText && ALL_LINEAR.test(only)) return { modules: [...linear], written: lastNames(linear) };
  if (isText) {
    const fitting = namesFitting([modulePattern(only)], linear);
    if (fitting.length === 0) {
      problems.push(
        `lora_target_modules: ${show(only)} has not come to an end after ${
          PATIENCE / 1000
        } s: stopped. Look for a ` +
          "repetition within a repetition, such as (.+)+",
      );
      return { modules: [], written: [] };
    }
    if (fitting[0].size > 0) return { modules: linear.filter((name) => fitting[0].has(name)), written: only };
  }
  const ends = [targets].flat();
  for (const end of ends) {
    if (linear.some((name) => endsWith(name, end))) continue;
    problems.push(`lora_target_modules: ${whyNone(net, linear, end)}`);
  }
  return { modules: linear.filter((name) => ends.some((end) => endsWith(name, end))), written: ends };
}

function whyNone(net: Net, linear: readonly string[], end: string): string {
  const { inputEmbeddings, outputEmbeddings } = net;
  const others = [inputEmbeddings, outputEmbeddings].flatMap(({ parts }) =>
    parts.map(({ name }) => moduleOf(name))
  );
  if (end === "lm_head" || others.some((name) => endsWith(name, end))) {
    return `${
      show(end)
    }: adapters of the embedding and of the head are not available: lora_modules_to_save trains them whole`;
  }
  const names = lastNames(linear);
  const near = nearest(end, names);
  return `${show(end)} is the end of no linear layer's name: ${
    near ? `did you mean ${near}? There are` : "there are"
  } ${names.join(", ")}`;
}

/** The parameters of the modules whose names end so, as PEFT finds modules_to_save. */
function savedParameters(net: Net, ends: readonly string[], problems: string[]): Set<string> {
  const names = net.parameters.flatMap(({ parts }) => parts.map(({ name }) => name));
  const saved = new Set<string>();
  const tied = net.inputEmbeddings === net.outputEmbeddings;
  for (const end of ends) {
    const found = names.filter((name) => moduleOf(name).endsWith(end));
    const isTied = tied && (end === "lm_head" ||
      found.some((name) => net.inputEmbeddings.parts.some((part) => part.name === name)));
    if (isTied) {
      problems.push(
        `lora_modules_to_save: ${
          show(end)
        }: this model's head is its embedding (tie_word_embeddings), and as a module of ` +
          "an adapter it would no longer be: it stays as it is",
      );
    } else if (found.length === 0) {
      const near = nearest(end, lastNames(names.map(moduleOf)));
      problems.push(
        `lora_modules_to_save: ${show(end)} is the end of no module's name${
          near ? `: did you mean ${near}?` : ""
        }`,
      );
    }
    for (const name of found) saved.add(name);
  }
  return saved;
}
