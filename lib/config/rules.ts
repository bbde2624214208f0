import { type Entry } from "./entries.ts";
import { MOST_PAIRS } from "./counts.ts";
import { areKnown, DEFINITIONS, namesOf } from "../losses/losses.ts";
import { idleLossKeys, lossProblems, oddLossValues } from "./loss_rules.ts";
import { modulePattern, patternProblem } from "./name_pattern.ts";
import { keyOf, type TrainConfig } from "./schema.ts";
import { areOptimArgs, describe, expectedOptimArgs, otherReporters } from "./values.ts";

/** Whether some parameters are not trained. */
export const freezes = ({ usePeft, unfrozenParameters }: PartialConfig): boolean =>
  usePeft === true || unfrozenParameters !== undefined && unfrozenParameters.length > 0;

/** Values read so far: complete but for the keys that were wrong, which are left out. */
export type PartialConfig = Partial<TrainConfig>;

/**
 * What is wrong between keys whose own values are right, one message each.
 *
 * @param written the entry of each key that was written, for the place in the message.
 */
export function conflicts(config: PartialConfig, written: ReadonlyMap<string, Entry>): string[] {
  const problems: string[] = [];
  /** Reports at the first of `fields` that was written, unless one of them is known to be wrong already. */
  const report = (fields: (keyof TrainConfig)[], wrong: () => boolean, message: () => string) => {
    if (fields.some((field) => config[field] === undefined) || !wrong()) return;
    const entry = fields.map((field) => written.get(field)).find((entry) => entry !== undefined);
    problems.push(`${entry?.valueAt ?? keyOf(fields[0])}: ${message()}`);
  };
  report(
    ["maxPromptLength", "maxLength"],
    () => config.maxPromptLength! >= config.maxLength!,
    () =>
      `expected max_prompt_length (${config.maxPromptLength}) to be below max_length (${config.maxLength}): ` +
      "a truncated pair would have no response left",
  );
  report(
    ["maxSteps", "numTrainEpochs"],
    () => config.maxSteps! <= 0 && config.numTrainEpochs! <= 0,
    () =>
      `expected max_steps or num_train_epochs above 0, found ${config.maxSteps} and ${config.numTrainEpochs}: ` +
      "there would be nothing to do",
  );
  const perStep = ["perDeviceTrainBatchSize", "gradientAccumulationSteps", "numGpus"] as const;
  const pairsPerStep = () => perStep.reduce((product, field) => product * config[field]!, 1);
  report(
    [...perStep],
    () => pairsPerStep() > MOST_PAIRS,
    () =>
      `expected at most ${MOST_PAIRS} pairs a step, found ${
        perStep.map(keyOf).join(" x ")
      } = ${pairsPerStep()}`,
  );
  report(
    ["prompts", "pipelineParallelSize"],
    () => config.prompts!.length > 0 && config.pipelineParallelSize! > 1,
    () =>
      `expected none with pipeline_parallel_size: ${config.pipelineParallelSize}, found ${
        config.prompts!.length
      }: ` +
      "no rank has all of the model to answer with: --prompts=[], and `simper generate` does it after the run",
  );
  report(
    ["zeroStage", "pipelineParallelSize"],
    () => config.zeroStage! > 1 && config.pipelineParallelSize! > 1,
    () =>
      `expected at most 1 with pipeline_parallel_size: ${config.pipelineParallelSize}, found ${config.zeroStage}: ` +
      "a stage keeps the gradients of all its passes until the ranks add them up (DeepSpeed refuses it too); " +
      "zero_stage: 1 leaves each rank the moments of its part",
  );
  report(
    ["optimArgs", "optim"],
    () => expectedOptimArgs(config.optim!) !== undefined && !areOptimArgs(config.optim!, config.optimArgs!),
    () =>
      `expected ${expectedOptimArgs(config.optim!)} with ${config.optim}, found ${
        describe(config.optimArgs)
      }`,
  );
  report(
    ["trainSamplingStrategy", "lossType"],
    () => config.trainSamplingStrategy === "random" && isKto(config),
    () =>
      "expected sequential with loss_type: kto, found random: kto estimates its reference point from a " +
      "micro-batch whose responses are paired in the order of the files",
  );
  report(
    ["datasetSplits"],
    () => config.datasetSplits!.some((name) => !/train|test/.test(name)),
    () =>
      `expected names that contain "train" or "test", found ${
        describe(config.datasetSplits!.find((name) => !/train|test/.test(name)))
      }`,
  );
  report(
    ["datasetSplits"],
    () => !config.datasetSplits!.some((name) => name.includes("train")),
    () => `expected a split with "train" in its name, found ${describe(config.datasetSplits)}`,
  );
  report(
    ["datasetMixer"],
    () => config.datasetMixer!.every(({ share }) => share === 0),
    () => "expected a share above 0, found none: there would be nothing to train on",
  );
  report(
    ["datasetConfigs", "datasetMixer"],
    () => config.datasetConfigs!.length !== config.datasetMixer!.length,
    () =>
      `expected a configuration for each of the ${config.datasetMixer!.length} data sets of dataset_mixer, ` +
      `found ${config.datasetConfigs!.length}`,
  );
  const wrongPattern = config.unfrozenParameters?.find((pattern) => patternProblem(pattern) !== undefined);
  report(
    ["unfrozenParameters"],
    () => wrongPattern !== undefined,
    () =>
      `expected regular expressions of parameters' names, found ${describe(wrongPattern)}: ${
        patternProblem(wrongPattern!)
      }`,
  );
  report(
    ["usePeft", "fromScratch"],
    () => config.usePeft! && config.fromScratch!,
    () => "expected a model to adapt, found from_scratch: true: random weights are not saved with adapters",
  );
  report(
    ["usePeft", "unfrozenParameters"],
    () => config.usePeft!,
    () =>
      "adapters are trained in place of the model's weights, and unfrozen_parameters names weights: keep one of them " +
      "(lora_modules_to_save trains modules beside adapters)",
  );
  report(
    ["adapterNameOrPath", "usePeft"],
    () => !config.usePeft!,
    () => "expected use_peft: true beside it, found false",
  );
  const wrongModules = typeof config.loraTargetModules === "string" &&
    problemOf(() => modulePattern(config.loraTargetModules as string));
  report(
    ["loraTargetModules"],
    () => Boolean(wrongModules),
    () =>
      `expected a regular expression of modules' names, found ${
        describe(config.loraTargetModules)
      }: ${wrongModules}`,
  );
  report(
    ["loadIn8bit", "loadIn4bit"],
    () => config.loadIn8bit! && config.loadIn4bit!,
    () => "expected load_in_4bit or load_in_8bit, found both",
  );
  for (const field of ["loadIn4bit", "loadIn8bit"] as const) {
    report(
      [field],
      () => config[field]! && !freezes(config),
      () =>
        `expected use_peft: true or unfrozen_parameters beside it, found neither: what is trained is not quantized`,
    );
    report(
      [field, "fromScratch"],
      () => config[field]! && config.fromScratch!,
      () => "expected a model that has weights, found from_scratch: true",
    );
  }
  const evaluating = (["doEval", "evalOnStart"] as const).find((field) => config[field] === true) ??
    (config.evalStrategy !== undefined && config.evalStrategy !== "no" ? "evalStrategy" : undefined);
  if (evaluating) {
    report(
      ["datasetSplits", evaluating],
      () => !config.datasetSplits!.some((name) => name.includes("test")),
      () =>
        `expected a split with "test" in its name, as ${keyOf(evaluating)} asks for evaluation; ` +
        `found ${describe(config.datasetSplits)}`,
    );
  }
  const { saveStrategy, saveSteps, evalStrategy, evalSteps, metricForBestModel } = complete(config);
  report(
    ["saveSteps"],
    () => config.saveSteps === 0,
    () => "expected save_steps above 0, found 0: save_strategy: no writes no checkpoints",
  );
  report(
    ["saveStrategy"],
    () => saveStrategy === "best" && (evalStrategy === "no" || metricForBestModel === undefined),
    () =>
      "best compares evaluations: expected eval_strategy to be steps or epoch and metric_for_best_model to be set, " +
      `found ${evalStrategy} and ${describe(metricForBestModel)}`,
  );
  report(
    ["loadBestModelAtEnd", "saveStrategy"],
    () => config.loadBestModelAtEnd! && saveStrategy !== "best" && saveStrategy !== evalStrategy,
    () =>
      "what was evaluated has to be saved: expected the same save_strategy and eval_strategy, " +
      `found ${saveStrategy} and ${evalStrategy}`,
  );
  report(
    ["loadBestModelAtEnd", "saveStrategy"],
    () =>
      config.loadBestModelAtEnd! && saveStrategy === "steps" && evalStrategy === "steps" &&
      saveSteps % evalSteps !== 0,
    () =>
      "what is saved has to be evaluated: expected save_steps to be a multiple of eval_steps, " +
      `found ${saveSteps} and ${evalSteps}`,
  );
  const losses = config.lossType !== undefined && areKnown(config.lossType)
    ? namesOf(config.lossType).map((name) => DEFINITIONS[name])
    : undefined;
  const lossNames = losses?.map(({ name }) => name).join(" and ");
  const hasReference = !config.referenceFree && losses?.some(({ usesReference = false }) => usesReference);
  for (const field of ["refModel", "precomputeRefBatchSize"] as const) {
    report(
      [field],
      // By default it may yet be a script's own: see `prepare`.
      () => losses !== undefined && written.has("lossType") && !hasReference,
      () =>
        `there is no reference with loss_type: ${lossNames}${
          config.referenceFree ? " and reference_free" : ""
        }: remove it`,
    );
  }
  report(
    ["perDeviceTrainBatchSize", "lossType"],
    () =>
      config.perDeviceTrainBatchSize === 1 &&
      !!losses?.some(({ isJudged = false, usesRejected = true }) => isJudged && usesRejected),
    () =>
      `expected 2 or more with loss_type: ${lossNames}, found 1: its reference point comes from the other ` +
      "responses of a micro-batch",
  );
  return [...problems, ...lossProblems(config, written)];
}

const isKto = ({ lossType }: PartialConfig) => lossType !== undefined && namesOf(lossType).includes("kto");

function problemOf(work: () => void): string | undefined {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Fills what follows from other keys, by the rules of transformers: an evaluation strategy turns evaluation
 * on, and without eval_steps it goes by logging_steps; the best model is the one of least loss.
 */
export function complete(config: PartialConfig): TrainConfig {
  const evalStrategy = config.evalStrategy ??
    (config.doEval && config.evalSteps !== undefined ? "steps" : "no");
  const metricForBestModel = config.metricForBestModel ?? (config.loadBestModelAtEnd ? "loss" : undefined);
  return {
    ...config,
    // As TRL's KTOTrainer, which refuses another.
    trainSamplingStrategy: config.trainSamplingStrategy ?? (isKto(config) ? "sequential" : "random"),
    evalStrategy,
    doEval: config.doEval || evalStrategy !== "no" || config.evalOnStart,
    evalSteps: config.evalSteps ?? config.loggingSteps,
    metricForBestModel,
    greaterIsBetter: config.greaterIsBetter ?? (metricForBestModel && metricForBestModel !== "loss"),
  } as TrainConfig;
}

/** What adapters of `adapter_name_or_path` have with them. */
const ADAPTER_FIELDS: readonly (keyof TrainConfig)[] = [
  "loraR",
  "loraAlpha",
  "loraDropout",
  "loraTargetModules",
  "loraModulesToSave",
  "useRslora",
  "useDora",
];

const FOUR_BIT_FIELDS: readonly (keyof TrainConfig)[] = ["bnb4bitQuantType", "useBnbNestedQuant"];

/** Why a field does nothing since another is off, where that is so. */
export function whyOff(field: keyof TrainConfig, config: TrainConfig): string | undefined {
  if (FOUR_BIT_FIELDS.includes(field) && !config.loadIn4bit) return "load_in_4bit is off";
  if (!ADAPTER_FIELDS.includes(field)) return;
  if (!config.usePeft) return "use_peft is off";
  if (config.adapterNameOrPath !== undefined) return "the adapters of adapter_name_or_path have their own";
}

const HUB_FIELDS = ["hubModelId", "hubPrivateRepo", "hubToken"] as const;

/** The keys that were written and right, yet do nothing beside the others, or what is hardly meant: a line each. */
export function overruled(config: TrainConfig, written: ReadonlyMap<string, Entry>): string[] {
  const lines = [...idleLossKeys(config, written), ...oddLossValues(config, written)];
  const add = (field: keyof TrainConfig, why: string) => {
    const entry = written.get(field);
    if (entry && entry.value !== null) lines.push(`${entry.key}: ignored: ${why}`);
  };
  if (config.warmupSteps > 0) add("warmupRatio", "warmup_steps is above 0 and wins");
  if (config.maxSteps > 0) add("numTrainEpochs", "max_steps is above 0 and wins");
  // In PyTorch's float32 too.
  const decay = config.learningRate * config.weightDecay;
  if (decay > 0 && Math.fround(1 - decay) === 1) {
    add("weightDecay", `learning_rate x weight_decay is ${decay}, which float32 cannot take from 1`);
  }
  if (config.evalStrategy !== "steps") add("evalSteps", `eval_strategy is ${config.evalStrategy}`);
  if (config.saveStrategy !== "steps") add("saveSteps", `save_strategy is ${config.saveStrategy}`);
  if (config.metricForBestModel === undefined) add("greaterIsBetter", "there is no metric_for_best_model");
  if (!freezes(config)) {
    add("dtype", "every weight is trained: optim says how it is kept, and it is saved in the source's dtype");
  }
  for (const field of [...FOUR_BIT_FIELDS, ...ADAPTER_FIELDS]) {
    const why = whyOff(field, config);
    if (why !== undefined) add(field, why);
  }
  if (config.optim.startsWith("lion")) add("adamEpsilon", `${config.optim} has none`);
  if (expectedOptimArgs(config.optim) === undefined) add("optimArgs", `optim is ${config.optim}`);
  const others = otherReporters(written.get("reportTo")?.value ?? null);
  if (others.length > 0) {
    lines.push(
      `report_to: ignored: ${
        others.join(", ")
      }: metrics.jsonl and report.html in output_dir have the figures, ` +
        "and `simper watch` shows them as they come",
    );
  }
  if (config.reportTo.length === 0) add("loggingDir", "report_to does not name tensorboard");
  if (!config.pushToHub) { for (const field of HUB_FIELDS) add(field, "push_to_hub is off"); }
  return lines;
}
