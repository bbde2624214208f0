import type { Key } from "./key.ts";
import type { DatasetShare, EvaluationMetric } from "./values.ts";

/** What each key of a run file is when it was checked; undefined where it may be left out and nothing stands for it then. */
export interface Values {
  modelNameOrPath: string;
  modelRevision: string | undefined;
  fromScratch: boolean;
  chatTemplate: string | undefined;
  chatTemplateDate: string | undefined;
  datasetMixer: readonly DatasetShare[];
  datasetSplits: readonly string[];
  datasetConfigs: readonly string[] | undefined;
  columnMapping: ReadonlyMap<string, string> | undefined;
  autoInsertEmptySystemMsg: boolean;
  labelGenerationPrompt: boolean;
  maxLength: number;
  maxPromptLength: number;
  truncationMode: "keep_end" | "keep_start";
  unfrozenParameters: readonly string[] | undefined;
  lossType: "simper" | "sft";
  optim: "adamw_torch" | "adamw_anyprecision";
  optimArgs: string | undefined;
  learningRate: number;
  lrSchedulerType: "cosine" | "linear" | "constant" | "constant_with_warmup";
  warmupRatio: number;
  warmupSteps: number;
  weightDecay: number;
  maxGradNorm: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  numTrainEpochs: number;
  maxSteps: number;
  perDeviceTrainBatchSize: number;
  perDeviceEvalBatchSize: number;
  gradientAccumulationSteps: number;
  numGpus: number;
  gradientCheckpointing: boolean;
  activationDtype: "float32" | "bfloat16";
  trainSamplingStrategy: "random" | "sequential";
  seed: number;
  doEval: boolean;
  evalStrategy: "no" | "steps" | "epoch";
  evalSteps: number;
  evalOnStart: boolean;
  prompts: readonly string[];
  outputDir: string;
  overwriteOutputDir: boolean;
  resumeFromCheckpoint: boolean | string | undefined;
  saveStrategy: "no" | "steps" | "epoch" | "best";
  saveSteps: number;
  saveTotalLimit: number | undefined;
  loadBestModelAtEnd: boolean;
  metricForBestModel: EvaluationMetric | undefined;
  greaterIsBetter: boolean | undefined;
  overwriteCache: boolean;
  runName: string | undefined;
  loggingSteps: number;
  loggingFirstStep: boolean;
  logLevel: "debug" | "info" | "warning" | "error";
  deviceMemory: number | undefined;
  pushToHub: boolean;
  hubModelId: string | undefined;
  hubPrivateRepo: boolean | undefined;
  hubToken: string | undefined;
}

/** Every checked configuration has a value of it. */
type Certain<T> = Key<T> & ({ required: true } | { follows: true } | { default: T });

/** What is known of each key; one that a configuration always has says how it comes to its value. */
export type Table = {
  readonly [F in keyof Values]: undefined extends Values[F] ? Key<Exclude<Values[F], undefined>>
    : Certain<Values[F]>;
};
