/** What a resumed run may change, and what a checkpoint waits for before it has its name. */
import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { checkConfig } from "../../lib/checkpoint/fingerprint.ts";
import { listCheckpoints } from "../../lib/checkpoint/names.ts";
import { type CheckpointContent, CheckpointWriter } from "../../lib/checkpoint/write.ts";
import { epochAfter, samplePosition, sampleStep } from "../../lib/training/sampler.ts";
import { FIELDS, keyOf, type TrainConfig } from "../../lib/config/schema.ts";
import { configEntries } from "../../lib/config/write.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal, run, stopAt } from "../in_process.ts";
import { parsed } from "../run_file.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** The keys that the numbers of a run follow from, each with another value than by default. */
const MATTER: { readonly [F in keyof TrainConfig]?: TrainConfig[F] } = {
  fromScratch: true,
  datasetMixer: [{ path: "data/a.jsonl", share: 0.5 }],
  autoInsertEmptySystemMsg: false,
  labelGenerationPrompt: false,
  columnMapping: new Map([["question", "prompt"]]),
  maxLength: 300,
  maxPromptLength: 100,
  truncationMode: "keep_start",
  unfrozenParameters: ["model.norm"],
  usePeft: true,
  dtype: "bfloat16",
  loadIn4bit: true,
  loadIn8bit: true,
  lossType: "sft",
  precomputeRefBatchSize: 3,
  optim: "adamw_anyprecision",
  optimArgs: "momentum_dtype=bfloat16",
  learningRate: 2e-6,
  lrSchedulerType: "linear",
  warmupRatio: 0.2,
  warmupSteps: 3,
  weightDecay: 0.1,
  maxGradNorm: 2,
  adamBeta1: 0.8,
  adamBeta2: 0.99,
  adamEpsilon: 1e-7,
  numTrainEpochs: 2,
  maxSteps: 9,
  perDeviceTrainBatchSize: 3,
  gradientAccumulationSteps: 4,
  numGpus: 2,
  activationDtype: "bfloat16",
  float32MatmulPrecision: "high",
  trainSamplingStrategy: "sequential",
  seed: 7,
  prompts: ["Hi?"],
};
/** Likewise those that do nothing without others, each with these. */
const BESIDE: { readonly [F in keyof TrainConfig]?: [lines: string, value: TrainConfig[F]] } = {
  lossWeights: ["loss_type: [simper, sft]", [1, 2]],
  beta: ["loss_type: sigmoid", 0.2],
  simpoGamma: ["loss_type: simpo", 0.7],
  gammaBetaRatio: ["loss_type: simpo\ngamma_beta_ratio: 0.3", 0.4],
  cpoAlpha: ["loss_type: cpo\ncpo_alpha: 0.5", 0.6],
  alpha: ["loss_type: alphapo", 0.2],
  labelSmoothing: ["loss_type: robust", 0.1],
  discopopTau: ["loss_type: discopop", 0.1],
  fDivergenceType: ["loss_type: sigmoid", "forward_kl"],
  fAlphaDivergenceCoef: ["loss_type: sigmoid\nf_divergence_type: alpha_divergence", 0.7],
  ldAlpha: ["loss_type: sigmoid\nld_alpha: 0.5", 0.6],
  useWeighting: ["loss_type: sigmoid", true],
  referenceFree: ["loss_type: sigmoid", true],
  desirableWeight: ["loss_type: kto", 2],
  undesirableWeight: ["loss_type: kto", 2],
  chosenAnchor: ["loss_type: simper", 0.1],
  refaLambda: ["loss_type: simper", 0.1],
  loraR: ["use_peft: true", 8],
  loraAlpha: ["use_peft: true", 16],
  loraDropout: ["use_peft: true", 0],
  loraTargetModules: ["use_peft: true", "all-linear"],
  loraModulesToSave: ["use_peft: true", ["lm_head"]],
  useRslora: ["use_peft: true", true],
  useDora: ["use_peft: true", true],
  bnb4bitQuantType: ["unfrozen_parameters: [model.norm]\nload_in_4bit: true", "fp4"],
  useBnbNestedQuant: ["unfrozen_parameters: [model.norm]\nload_in_4bit: true", true],
};
/** The keys that leave the weights after a step as they are, or whose files are compared by their hashes. */
const FREE: readonly (keyof TrainConfig)[] = [
  "modelNameOrPath",
  "modelRevision",
  "loraTaskType",
  "adapterNameOrPath",
  "refModel",
  "chatTemplate",
  "chatTemplateDate",
  "datasetSplits",
  "datasetConfigs",
  "perDeviceEvalBatchSize",
  "gradientCheckpointing",
  "doEval",
  "evalStrategy",
  "evalSteps",
  "evalOnStart",
  "outputDir",
  "overwriteOutputDir",
  "resumeFromCheckpoint",
  "saveStrategy",
  "saveSteps",
  "saveTotalLimit",
  "loadBestModelAtEnd",
  "metricForBestModel",
  "greaterIsBetter",
  "overwriteCache",
  "runName",
  "loggingSteps",
  "loggingFirstStep",
  "reportTo",
  "loggingDir",
  "logLevel",
  "deviceMemory",
  "pushToHub",
  "hubModelId",
  "hubPrivateRepo",
  "hubToken",
  "webgpuEngine",
  "gpuId",
  "shareGpu",
  "pipelineParallelSize",
  "zeroStage",
];

const { config } = parsed("");

/** A checkpoint of a run of this configuration. */
const saved = (of: TrainConfig) =>
  ({
    folder: "out/checkpoint-1",
    state: {
      run: {
        config: Object.fromEntries(
          configEntries(of).map(([key, value]) => [key, value instanceof Map ? [...value] : value]),
        ),
      },
    },
  }) as unknown as Parameters<typeof checkConfig>[1];

Deno.test("every key either matters to a resumed run and is refused by its name when it changed, or is free", () => {
  const known = [...Object.keys(MATTER), ...Object.keys(BESIDE), ...FREE];
  assert.deepEqual(FIELDS.filter((field) => !known.includes(field)), [], "keys in neither list");
  checkConfig(config, saved(config));
  for (const [field, value] of Object.entries(MATTER)) {
    assert.throws(
      () => checkConfig({ ...config, [field]: value }, saved(config)),
      new RegExp(`^UserError: out/checkpoint-1 is of another run:\n  ${keyOf(field as keyof TrainConfig)}: `),
      field,
    );
  }
  for (const [field, [lines, value]] of Object.entries(BESIDE)) {
    const { config } = parsed(lines);
    assert.throws(
      () => checkConfig({ ...config, [field]: value }, saved(config)),
      new RegExp(`\n  ${keyOf(field as keyof TrainConfig)}: `),
      field,
    );
  }
  for (const field of FREE) {
    const now: unknown = config[field];
    const other = typeof now === "boolean" ? !now : typeof now === "number" ? now + 1 : ["other"];
    checkConfig({ ...config, [field]: other }, saved(config));
  }
  // The same share of a file under another name: its hash is compared.
  checkConfig({ ...config, datasetMixer: [{ path: "data/b.jsonl", share: 1 }] }, saved(config));
});

Deno.test("the position after some steps is the pair that the next step begins with", () => {
  for (const [pairs, perBatch, batchesPerStep] of [[23, 2, 3], [24, 2, 3], [5, 1, 1], [1, 4, 2]]) {
    const chosen = {
      pairs,
      perBatch,
      batchesPerStep,
      gpus: 1,
      epochs: 3,
      maxSteps: -1,
      strategy: "sequential",
      seed: 5,
    } as const;
    for (let steps = 0; steps < 12; steps++) {
      const { epoch, pair } = samplePosition(steps, chosen);
      assert.equal(pair, sampleStep(steps, chosen).batches[0][0]);
      assert.equal(epoch, Math.floor(epochAfter(steps, chosen)));
    }
  }
});

Deno.test("checkpoints are folders, in the order of their steps", () =>
  withTemporaryFolder(async (folder) => {
    for (
      const name of ["checkpoint-10", "checkpoint-9", "checkpoint-100", "tmp-checkpoint-3", "checkpoint-x"]
    ) {
      await Deno.mkdir(join(folder, name));
    }
    await Deno.writeTextFile(join(folder, "checkpoint-11"), "");
    assert.deepEqual((await listCheckpoints(folder)).map(({ step }) => step), [9, 10, 100]);
    assert.deepEqual(await listCheckpoints(join(folder, "none")), []);
  }));

Deno.test("a run stopped on its way over a finished one is not taken for finished", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    await run(out);
    assert.match(await refusal(run(out)), /is not empty/);
    await stopAt(6, out, [`--resume_from_checkpoint=${join(out, "checkpoint-4")}`]);
    // It goes on by itself.
    assert.equal((await run(out)).steps, 12);
  }));

Deno.test("a checkpoint gets its name when its files and their names are on the disk, and not before", () =>
  withTemporaryFolder(async (folder) => {
    const handle = await open(`${GOLDEN}/run.yaml`);
    const handles = Object.getPrototypeOf(handle) as typeof handle;
    await handle.close();
    const named: boolean[] = [];
    const isNamed = () => Deno.stat(join(folder, "checkpoint-1")).then(() => true, () => false);
    const own = handles.sync;
    handles.sync = async function () {
      // A slow disk: whoever does not wait is ahead of it.
      await new Promise((resolve) => setTimeout(resolve, 20));
      await own.call(this);
      named.push(await isNamed());
    };
    try {
      const writer = new CheckpointWriter(folder, undefined, () => {});
      const source = { name: "w", dtype: "U8", shape: [2], chunks: () => [Uint8Array.of(1, 2)] } as const;
      await writer.write({
        weights: [source],
        optimizer: [source],
        modelFolder: `${GOLDEN}/untied`,
        modelFiles: new Map([["config.json", Uint8Array.of(123, 125)]]),
        trainerState: { best_model_checkpoint: null },
        runState: { step: 1 },
      } as unknown as CheckpointContent);
      assert.equal(await isNamed(), false);
      await writer.finish();
    } finally {
      handles.sync = own;
    }
    assert.equal(await isNamed(), true);
    // The last one is of the name itself.
    assert.ok(named.length > 5, `${named}`);
    assert.deepEqual(named, [...Array(named.length - 1).fill(false), true]);
  }));
