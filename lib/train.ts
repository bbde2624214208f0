import { Checkpoints } from "./checkpoint/checkpoints.ts";
import { checkFiles, fingerprint, hashModel, warnings } from "./checkpoint/fingerprint.ts";
import { findStart, prepareOutput } from "./checkpoint/start.ts";
import { restore } from "./checkpoint/tensors.ts";
import type { TrainConfig } from "./config/schema.ts";
import { FORCED, forcesMistralTemplate } from "./data/mistral_template.ts";
import { UserError } from "./errors.ts";
import type { TrainEvents } from "./events.ts";
import { generate } from "./generate.ts";
import { type Gpu, openGpu } from "./gpu/device.ts";
import { Pipelines } from "./gpu/program.ts";
import { resolveSources } from "./hub/hub.ts";
import { randomInit } from "./init.ts";
import { Loop } from "./loop.ts";
import { ANSWER_TOKENS, checkFits, memoryLimit, type Planned, planRun } from "./plan.ts";
import { prepare, type Prepared } from "./prepare.ts";
import type { Answer, HashedFile } from "./report/run_report.ts";
import type { LogEntry, TrainerState } from "./report/trainer_state.ts";
import { type Checkpoint, openCheckpoint } from "./safetensors.ts";
import { tune } from "./tune.ts";

/** A trained model, still on the GPU, and what its training measured. Call `destroy` when done with it. */
export interface TrainOutcome {
  config: TrainConfig;
  prepared: Prepared;
  planned: Planned;
  gpu: Gpu;
  checkpoint?: Checkpoint;
  history: LogEntry[];
  answers: Answer[];
  /** The run as trainer_state.json has it. */
  state: TrainerState;
  /** The model's files that the run began with. */
  modelFiles: HashedFile[];
  /** Whether a signal stopped the run, which goes on from its last checkpoint when it is started again. */
  isStopped: boolean;
  /** The step of the weights: the last, or with `load_best_model_at_end` the best. */
  weightsStep: number;
  /** Steps done, by the runs that this one goes on with too, as all the figures below. */
  steps: number;
  epoch: number;
  /** Seconds of the training loop, evaluation in it included, and what went through it. */
  seconds: number;
  pairs: number;
  tokens: number;
  trainLoss: number;
  /** Floating-point operations of the model's matrix products and attention, forward and backward. */
  flops: number;
  destroy(): Promise<void>;
}

export interface TrainOptions extends TrainEvents {
  /** Any object with the WebGPU API; the runtime's own by default. */
  gpu?: GPU;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
  /** Stops the run after the step in hand, with a checkpoint. */
  signal?: AbortSignal;
}

/**
 * Trains a model as `config` says: everything from reading the data to the last update, with a model or data that `config`
 * names on the Hub fetched before. Checkpoints are written into `output_dir` on the way, and an unfinished run that it holds
 * is gone on with (see `resume_from_checkpoint`). Saving the result is `saveRun`'s.
 *
 * @throws {UserError} for whatever a user can mend: files, data, memory, a loss that is not finite.
 */
export async function train(config: TrainConfig, options: TrainOptions = {}): Promise<TrainOutcome> {
  const { log = () => {}, signal } = options;
  const before = await findStart(config);
  if (before) log("info", `going on from ${before.folder}, after ${before.state.step} steps`);
  const sources = await resolveSources(config, { log, progress: options.fetched, signal });
  const checkpoint = config.fromScratch ? undefined : await openCheckpoint(sources.model);
  if (forcesMistralTemplate(config)) log("info", FORCED);
  const prepared = await prepare(config, { ...options, sources });
  reportData(prepared, log);
  const modelFiles = await hashModel(sources.model, checkpoint?.files ?? []);
  const identity = fingerprint(config, prepared, modelFiles);
  if (before) checkFiles(identity, before, prepared.totalSteps);

  const gpu = await openGpu(options.gpu);
  try {
    if (before) { for (const line of warnings(before, gpu.name)) log("warning", line); }
    const pipelines = new Pipelines(gpu);
    const { adapter, tuning } = await tune(gpu, pipelines, prepared, config, {
      log,
      before: before?.state.kernels,
    });
    const planned = planRun(prepared, config, adapter);
    const { decoder, optimizer } = planned;
    if (checkpoint) decoder.parameters.check(checkpoint);
    checkFits(planned, prepared, config, adapter, memoryLimit(config, gpu));
    log("info", `adapter: ${gpu.name}`);
    log("info", `memory plan of ${decoder.parameters.count} parameters, bytes:\n${decoder.plan.table()}`);

    await decoder.allocate(gpu, pipelines);
    await optimizer.compile(gpu, pipelines);
    const tensors = { gpu, planned, prepared, source: checkpoint };
    if (before) await restore(before.folder, tensors);
    else if (checkpoint) await decoder.parameters.load(gpu, checkpoint);
    else await randomInit(gpu, decoder.parameters, sources.model, config.seed);
    log("info", `allocated ${decoder.plan.allocatedBytes} bytes, planned ${decoder.plan.bytes}`);

    const answers = before?.state.answers ?? await answer(gpu, planned, prepared);
    const checkpoints = new Checkpoints(
      { ...tensors, config, fingerprint: identity, kernels: tuning, answers },
      before,
      (folder) => log("info", `saved ${folder}`),
    );
    await prepareOutput(config.outputDir, before !== undefined);
    const loop = new Loop({ gpu, config, prepared, planned, checkpoints }, options, before);
    await loop.train(signal);
    const state = await loop.trainerState();
    const best = !loop.isStopped && config.loadBestModelAtEnd ? state.best_model_checkpoint : null;
    if (best && state.best_global_step !== state.global_step) {
      log("info", `the best model is that of ${best}`);
      await checkpoints.loadWeights(best);
    }
    const after = loop.isStopped ? answers : await answer(gpu, planned, prepared).catch((error) => {
      // A trained model is worth more than what it says.
      if (!(error instanceof UserError)) throw error;
      log("warning", error.message);
      return answers.map(() => "");
    });
    return {
      config,
      prepared,
      planned,
      gpu,
      checkpoint,
      modelFiles,
      state,
      isStopped: loop.isStopped,
      weightsStep: best ? state.best_global_step! : state.global_step,
      history: loop.figures.history,
      answers: prepared.prompts.map(({ text }, i) => ({ prompt: text, before: answers[i], after: after[i] })),
      epoch: state.epoch,
      ...loop.figures.totals,
      destroy: async () => {
        decoder.destroy();
        gpu.destroy();
        await checkpoint?.close();
        await prepared.close();
      },
    };
  } catch (error) {
    gpu.destroy();
    await prepared.close();
    throw error;
  }
}

function reportData({ train, test }: Prepared, log: NonNullable<TrainEvents["log"]>): void {
  for (const [split, part] of [["train", train], ["test", test]] as const) {
    if (!part) continue;
    const { rows, tokens, longest, truncated, emptyResponses } = part.statistics;
    log("info", `${split}: ${rows} pairs, ${tokens} tokens, the longest ${longest}`);
    if (truncated) {
      log("warning", `${split}: ${truncated} of ${rows} pairs were longer than max_length and truncated`);
    }
    for (const where of emptyResponses.slice(0, 5)) {
      log(
        "warning",
        `${where}: an empty response: trained on as what the template puts around it; remove the row if that is not meant`,
      );
    }
    if (emptyResponses.length > 5) {
      log("warning", `${split}: ${emptyResponses.length} empty responses in all`);
    }
  }
}

/** Greedy answers to the config's prompts, as the model is now. */
async function answer(
  gpu: Gpu,
  { decoder }: Planned,
  { prompts, tokenizer, pool }: Prepared,
): Promise<string[]> {
  const answers: number[][] = [];
  for (const { ids } of prompts) {
    const eosTokenId = tokenizer.eosTokenId;
    answers.push(await generate(gpu, decoder, ids, { maxNewTokens: ANSWER_TOKENS, eosTokenId }));
  }
  if (answers.length === 0) return [];
  const texts = await pool.texts(answers, "prompts: an answer", { skipSpecialTokens: true });
  return texts.map((text) => text.trim());
}
