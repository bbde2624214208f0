import { openAdapter } from "../adapters/open.ts";
import { withNewAdapters } from "../adapters/start.ts";
import { Checkpoints } from "../checkpoint/checkpoints.ts";
import { checkFiles, fingerprint, hashCheckpoint, hashModel, warnings } from "../checkpoint/fingerprint.ts";
import { divisionOf } from "../checkpoint/division.ts";
import { checkPlaces, openOutput } from "../checkpoint/output.ts";
import { provenanceOf } from "../checkpoint/provenance.ts";
import { findStart, prepareOutput } from "../checkpoint/start.ts";
import { restore } from "../checkpoint/tensors.ts";
import type { RunKeys, TrainConfig } from "../config/schema.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import { inArea, UserError } from "../errors.ts";
import { generate } from "../generation/generate.ts";
import { GpuGenerator } from "../generation/gpu_generator.ts";
import { describeAdapter, type Gpu, openGpu } from "../gpu/device.ts";
import { Pipelines } from "../gpu/program.ts";
import { deviceClass, type TuningRecord } from "../gpu/tuning.ts";
import { firstOfAll, gather } from "../distributed/collectives.ts";
import { alone } from "../distributed/communicator.ts";
import { gridOf } from "../distributed/grid.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { Net } from "../graph/net.ts";
import { formatBytes } from "../text/format_bytes.ts";
import { heed } from "../progress/heed.ts";
import { localSources, resolveSources } from "../hub/hub.ts";
import { randomInit } from "../weights/init.ts";
import { Loop } from "./loop.ts";
import { checkModelFiles, readModelFiles } from "../hub/model_files.ts";
import {
  type Adapter,
  ANSWER_TOKENS,
  bytesOfRun,
  memoryLimit,
  optimizerOf,
  planRun,
} from "../planning/plan.ts";
import { bytesBesidePlan } from "../planning/process_memory.ts";
import { checkFits, planTable } from "../planning/advice.ts";
import { openModel } from "../weights/weights.ts";
import { prepare, type Prepared } from "../planning/prepare.ts";
import type { OnProgress } from "../progress/progress.ts";
import { reportBalance, reportSplit, reportSteps } from "../report/data_report.ts";
import { RunLog } from "../report/run_log.ts";
import { runFacts } from "../report/run_report.ts";
import { roundedWeights } from "../report/rounded_weights.ts";
import type { HashedFile } from "../data/hash.ts";
import { overlaid } from "../safetensors/read.ts";
import { precisionOn } from "../planning/precision.ts";
import { tune } from "../planning/tune.ts";
import { VERSION } from "../program/version.ts";
import { probeLoss } from "../gpu/loss_probe.ts";
import { checkFunction, checkWgsl, isFlat } from "../losses/check.ts";
import { areProven, describeLoss, followsFrom, lossOf } from "../losses/losses.ts";
import type { TensorReader } from "../safetensors/read.ts";
import type { Loss } from "../losses/loss.ts";
import { configOf, takeData, type TrainOptions } from "./options.ts";
import type { RunParts, TrainRun } from "./outcome.ts";
import {
  checkAdapters,
  checkSameFiles,
  checkSameKeys,
  checkSharedFolder,
  describeRanks,
  idleZeroStage,
  openAdder,
  passesOfRank,
  RankLog,
} from "./ranks.ts";
import { addReference, keptReference } from "./reference.ts";
import { saveRun, sendSaved } from "./save.ts";

/**
 * Trains a model as a configuration says: everything from reading the data to the last update, with a model or data
 * that it names on the Hub fetched before. Checkpoints are written into `output_dir` on the way, and an unfinished run
 * that it holds is gone on with (see `resume_from_checkpoint`). Saving the result is the run's `save`; until the run is
 * disposed of, no other may have `output_dir`.
 *
 * @param given the keys of a run file, or what `defineConfig` and `readConfig` made of them.
 * @throws {UserError} for whatever a user can mend: files, data, memory, a loss that is not finite; the reason of
 * `options.signal`, where it comes before the first step.
 *
 * @example Pairs of one's own, a loss of one's own, and the first step of it
 * ```ts
 * import { train } from "./train.ts";
 * import assert from "node:assert/strict";
 *
 * const pairs = [
 *   { prompt: "What is the capital of Italy?", chosen: " Rome.", rejected: " Milan, I think." },
 *   { prompt: "What is the capital of Norway?", chosen: " Oslo.", rejected: " Bergen, I think." },
 * ];
 * const keys = {
 *   model_name_or_path: "configs/tiny/model",
 *   output_dir: "out/example",
 *   overwrite_output_dir: true,
 *   max_steps: 1,
 * };
 * await using run = await train(keys, {
 *   data: pairs,
 *   loss: {
 *     name: "log-ratio",
 *     of: (chosen, rejected) => ({
 *       value: rejected.sum / rejected.labels - chosen.sum / chosen.labels,
 *       dChosen: -1 / chosen.labels,
 *       dRejected: 1 / rejected.labels,
 *     }),
 *   },
 *   onStep: ({ loss }) => assert.ok(Number.isFinite(loss)),
 * });
 * assert.equal(run.steps, 1);
 * ```
 */
export async function train(given: TrainConfig | RunKeys, options: TrainOptions = {}): Promise<TrainRun> {
  const config = configOf(given, options);
  const { communicator = alone, onSave, signal } = options;
  const { loss = lossOf(config) } = options;
  const isFirst = communicator.rank === 0;
  await checkSameKeys(communicator, config);
  const passes = passesOfRank(config, communicator);
  const ranks = await gridOf(communicator, config.pipelineParallelSize);
  const rankLog = new RankLog(communicator, options.onLog ?? (() => {}));
  const { log } = rankLog;
  const onProgress = isFirst ? options.onProgress : undefined;
  const warn = (message: string) => log("warning", message);
  const idle = idleZeroStage(config, communicator);
  if (idle) warn(idle);
  await using held = new AsyncDisposableStack();
  await checkPlaces(config, localSources(config));
  const output = isFirst ? await openOutput(config.outputDir, warn) : undefined;
  held.defer(() => output?.close());
  // The others see what is there once it is in order.
  await gather(communicator, null);
  const before = await findStart(config);
  if (before) log("info", `going on from ${before.folder}, after ${before.state.step} steps`);
  // Where there is none, or none for this run, that is told before anything is fetched and tokenized.
  const gpu = await openGpu({ ...config, gpu: options.gpu }, areProven(config, loss));
  held.defer(() => gpu.destroy());
  const precision = precisionOn(gpu, config);
  const sharers = await checkAdapters(communicator, gpu, config);
  const data = options.data && await takeData(options.data, config.doEval, signal);
  const sources = await inArea(
    "NOT_FOUND",
    () => firstOfAll(communicator, () => resolveSources(config, { log, onProgress, signal })),
  );
  await checkPlaces(config, sources);
  // What the result needs of the model's folder, which may be gone by then.
  const files = await inArea("MODEL_INVALID", () => readModelFiles(sources.model));
  onProgress?.({ what: "opening the model", done: 0 });
  const checkpoint = config.fromScratch
    ? undefined
    : await inArea("MODEL_INVALID", () => openModel(sources.model, warn));
  held.defer(() => checkpoint?.close());
  const { adapter: adapters } = sources;
  const adapter = adapters === undefined
    ? undefined
    : await inArea("MODEL_INVALID", () => openAdapter(adapters));
  held.defer(() => adapter?.close());
  if (forcesMistralTemplate(config)) log("info", FORCED);
  const prepared = await firstOfAll(communicator, () =>
    prepare(config, {
      log,
      onProgress,
      signal,
      readsOnly: options.readsOnly,
      data,
      loss,
      sources,
      model: checkpoint?.model,
      adapter,
      date: before?.state.run.date,
      begunSteps: before?.state.begunSteps,
    }));
  held.defer(() => prepared.close());
  reportSplit("train", prepared.train.statistics, log);
  if (prepared.test) reportSplit("test", prepared.test.statistics, log);
  reportBalance(prepared.train.statistics, config, log);
  reportSteps(prepared, log);
  const kept = keptReference(prepared, config);
  if (kept) warn(kept);
  const otherFolder = prepared.reference?.folder;
  const other = otherFolder === undefined
    ? undefined
    : await inArea("MODEL_INVALID", () => openModel(otherFolder, warn));
  held.defer(() => other?.close());
  const hashes = () =>
    hashModel(sources.model, [...checkpoint?.files ?? [], ...adapter?.files ?? []], onProgress);
  const modelFiles = await hashes();
  const otherFiles = other && await hashModel(otherFolder!, other.files, onProgress);
  const identity = fingerprint(config, prepared, modelFiles, otherFiles);
  if (before) checkFiles(identity, before, prepared.totalSteps);
  const start = before && communicator.size > 1
    ? { step: before.state.step, files: await hashCheckpoint(before.folder, onProgress) }
    : undefined;
  await checkSameFiles(communicator, identity, start);
  const isTied = prepared.net.inputEmbeddings === prepared.net.outputEmbeddings;
  const ofStages = optimizerOf(config).trained === "bf16"
    ? "weights are rounded by chance, another one where they lie elsewhere"
    : isTied
    ? "the gradient of the embedding's table, which is the head too, is added up of other parts (some 1e-6), and all " +
      "else is computed as it was"
    : undefined;
  const division = divisionOf(ranks, config, ofStages !== undefined);
  if (before) warnings(before, gpu.name, division, ofStages).forEach(warn);
  const pipelines = new Pipelines(gpu, signal, onProgress);
  if (followsFrom(config, loss)) log("info", describeLoss(lossOf(config)));
  else await checkLoss(loss, gpu, pipelines, log);
  const tunedAs = (record?: TuningRecord) =>
    tune(gpu, pipelines, prepared, { onLog: log, onProgress, before: record, precision });
  const first = isFirst ? await tunedAs(before?.state.kernels) : undefined;
  // As the first one: what each measured for itself might round differently.
  const [record] = await gather(communicator, first?.tuning);
  const { adapter: device, tuning } = first ?? await tunedAs(record);
  const planned = planRun(prepared, config, device, communicator);
  const { decoder } = planned;
  const beside = await bytesBesidePlan(
    sources.model,
    decoder.plan.bytesOf("weights"),
    decoder.parameters.hostBytes + planned.runner.hostBytes(passes),
  );
  checkFits(planned, prepared, config, device, memoryLimit(config, gpu, beside, sharers), communicator);
  if (communicator.size > 1) {
    log("info", describeRanks(ranks, passes, decoder.net));
  }
  log("info", `adapter: ${describeAdapter(gpu)}`);
  const { count, trainedCount } = decoder.parameters;
  const trained = trainedCount < count ? `, ${trainedCount} of them trained` : "";
  log("info", `memory plan of ${count} parameters${trained}: ${formatBytes(decoder.plan.bytes)}`);
  log("debug", `planned bytes:\n${planTable(planned)}`);
  const rounded = checkpoint && !before && roundedWeights(config, decoder.parameters, checkpoint);
  if (rounded) log("info", rounded);

  const begin = async ({ parameters }: Decoder, { parameters: specs }: Net, weights?: TensorReader) => {
    if (weights) await parameters.load(gpu, weights, "weights", onProgress);
    else await randomInit(gpu, parameters, sources.model, config.seed, { specs, onProgress });
  };
  const { reference } = planned;
  if (reference) {
    await firstOfAll(ranks.data, () =>
      addReference({
        ...{ config, prepared, gpu, pipelines, log, onProgress, signal },
        decoder: reference,
        pipeline: ranks.pipeline,
        files: otherFiles ?? modelFiles,
        kernels: tuning,
        load: async () => {
          const isAdapted = prepared.reference?.isAdapted && checkpoint && adapter;
          const weights = other ?? (isAdapted ? overlaid(checkpoint, adapter) : checkpoint);
          await begin(reference, prepared.reference!.net, weights);
          // What follows from other bytes is not to be kept under the name of these.
          if (otherFiles) checkHashes("ref_model", otherFiles, await hashModel(otherFolder!, other!.files));
          else checkHashes("model_name_or_path", modelFiles, await hashes());
        },
      }));
  }
  pipelines.expect([...decoder.forward, ...decoder.backward, ...planned.runner.calls]);
  await decoder.allocate(gpu, pipelines);
  held.defer(() => decoder.destroy());
  const adder = await openAdder(communicator, ranks, gpu);
  held.defer(() => adder.close());
  await planned.runner.compile(gpu, pipelines, adder);
  const tensors = { gpu, planned, prepared, source: checkpoint };
  // Frozen weights beside adapters are in no checkpoint.
  if (!before || prepared.adapter) {
    const start = !checkpoint || !prepared.adapter
      ? checkpoint
      : adapter
      ? overlaid(checkpoint, adapter)
      : withNewAdapters(checkpoint, prepared.net, config.seed);
    await begin(decoder, prepared.net, start);
    if (!before && !adapter) await decoder.measureMagnitudes(gpu, pipelines);
  }
  if (before) await restore(before.folder, tensors, { onProgress });
  log("debug", `allocated ${decoder.plan.allocatedBytes} bytes, planned ${decoder.plan.bytes}`);
  await checkModelFiles(sources.model, files);
  checkHashes("model_name_or_path", modelFiles, await hashes());

  const model = { gpu, pipelines, adapter: device, decoder };
  const prompts = isFirst ? prepared.prompts : [];
  const answers = before?.state.answers ??
    await answer(model, prepared, prompts, { what: "answering before", warn, onProgress, signal });
  await heed(signal);
  await rankLog.tell();
  const checkpoints = new Checkpoints(
    {
      ...tensors,
      config,
      fingerprint: identity,
      modelFiles: files,
      kernels: tuning,
      communicator,
      division,
      answers,
    },
    before,
    (folder) => {
      log("info", `saved ${folder}`);
      onSave?.(folder);
    },
    onProgress,
  );
  if (isFirst) await prepareOutput(config.outputDir, before !== undefined);
  if (config.loadBestModelAtEnd) await checkSharedFolder(communicator, config.outputDir);
  const runLog = isFirst ? new RunLog(config, warn) : undefined;
  const loop = new Loop(
    { gpu, config, prepared, planned, checkpoints, log: runLog, communicator, ranks },
    // Of the steps all ranks know the same.
    { ...options, onProgress, ...!isFirst && { onLog: undefined, onProfile: undefined } },
    before,
  );
  const provenance = await provenanceOf(
    config,
    prepared,
    identity,
    { device: gpu.name, kernels: tuning, ...(division && { division }) },
    before,
  );
  const facts = runFacts({
    config,
    answers: prompts.map(({ text }, i) => ({ prompt: text, before: answers[i] })),
    modelFiles,
    dataFiles: [...prepared.train.files, ...prepared.test?.files ?? []],
    memoryBytes: bytesOfRun(planned),
    device: gpu.name,
    version: VERSION,
    provenance,
  });
  await runLog?.begin(await loop.trainerState(), facts);
  await loop.train(signal);
  // The last checkpoint has its name by then.
  if (config.loadBestModelAtEnd) await gather(communicator, null);
  const state = await loop.trainerState();
  const best = !loop.isStopped && config.loadBestModelAtEnd ? state.best_model_checkpoint : null;
  if (best && state.best_global_step !== state.global_step) {
    log("info", `the best model is that of ${best}`);
    await checkpoints.loadWeights(best);
  }
  const isKept = checkpoints.lastStep === state.global_step;
  // Where there is nothing to go on from, what is left is done whatever comes.
  const until = isKept ? signal : undefined;
  const again = { what: "answering after", warn, onProgress, signal: until };
  const after = loop.isStopped ? answers : await answer(model, prepared, prompts, again).catch((error) => {
    if (until?.aborted) return;
    // A trained model is worth more than what it says.
    if (!(error instanceof UserError)) throw error;
    warn(error.message);
    return answers.map(() => "");
  });
  const outcome = {
    config,
    isStopped: loop.isStopped || after === undefined,
    isKept,
    weightsStep: best ? state.best_global_step! : state.global_step,
    history: loop.figures.history,
    answers: prompts.map(({ text }, i) => ({
      prompt: text,
      before: answers[i],
      after: (after ?? answers)[i],
    })),
    epoch: state.epoch,
    ...loop.figures.totals,
  };
  const parts: RunParts = {
    outcome,
    state,
    gpu,
    planned,
    prepared,
    checkpoint,
    modelFiles,
    files,
    provenance,
    communicator,
  };
  const owned = held.move();
  let isDisposed = false;
  let saving: Promise<unknown> = Promise.resolve();
  return {
    ...outcome,
    save: async ({ signal } = {}) => {
      if (isDisposed) throw new UserError("the run was disposed of: save it before", 1, "DISPOSED");
      if (!isFirst) {
        await sendSaved(parts);
        return {};
      }
      const saved = inArea("OUTPUT_REFUSED", () => saveRun(parts, { signal, onProgress, onLog: log }));
      saving = Promise.allSettled([saving, saved]);
      const results = await saved;
      onSave?.(config.outputDir);
      return results;
    },
    [Symbol.asyncDispose]: async () => {
      isDisposed = true;
      await saving;
      await owned.disposeAsync();
    },
  };
}

/**
 * Compares the derivatives of a loss that is no built-in one with its values; those of TypeScript, where nothing was
 * touched, before.
 */
async function checkLoss(
  loss: Loss,
  gpu: Gpu,
  pipelines: Pipelines,
  log: NonNullable<TrainOptions["onLog"]>,
): Promise<void> {
  const found = "wgsl" in loss
    ? await checkWgsl(loss, (sums) => probeLoss(gpu, pipelines, loss, sums))
    : checkFunction(loss);
  if (isFlat(found)) {
    log("warning", `loss ${loss.name}: its derivatives are 0 wherever it was tried: it may train nothing`);
  }
  log("info", `loss: ${loss.name}, whose derivatives are those of its values`);
}

function checkHashes(key: string, before: readonly HashedFile[], now: readonly HashedFile[]): void {
  const changed = before.find(({ sha256 }, i) => sha256 !== now[i].sha256);
  if (!changed) return;
  throw new UserError(
    `${key}: ${changed.path} was changed while it was being read: start again when nothing writes there`,
  );
}

/**
 * Greedy answers to the config's prompts, as the model is now. The cache of keys is there as long as that takes,
 * beside the plan.
 */
async function answer(
  { gpu, pipelines, adapter, decoder }: {
    gpu: Gpu;
    pipelines: Pipelines;
    adapter: Adapter;
    decoder: Decoder;
  },
  { tokenizer, pool }: Prepared,
  prompts: Prepared["prompts"],
  { what, warn, onProgress, signal }: {
    what: string;
    warn: (message: string) => void;
    onProgress?: OnProgress;
    signal?: AbortSignal;
  },
): Promise<string[]> {
  const answers: number[][] = [];
  const total = prompts.length;
  if (total === 0) return [];
  const longest = prompts.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  using held = new DisposableStack();
  let generator: GpuGenerator;
  try {
    generator = await GpuGenerator.open(gpu, pipelines, decoder.net, decoder.parameters, {
      ...adapter,
      positions: longest + ANSWER_TOKENS,
      device: deviceClass(gpu),
    });
    held.defer(() => generator.plan.destroy());
  } catch (error) {
    if (!(error instanceof UserError && error.code === "OUT_OF_MEMORY")) throw error;
    // What is planned fits all the same, and a run is worth more than what its model says.
    warn(`${what}: the GPU has not enough memory for answers beside the run: there are none`);
    return prompts.map(() => "");
  }
  const { eosTokenId } = tokenizer;
  const eosTokenIds = eosTokenId === undefined ? [] : [eosTokenId];
  for (const [i, { ids }] of prompts.entries()) {
    // An answer of the full length is one of the whole.
    const onToken = (tokens: number) =>
      onProgress?.({ what, done: i + tokens / (ANSWER_TOKENS + 1), total, unit: "prompts" });
    onToken(0);
    answers.push(
      await generate(generator, ids, { maxNewTokens: ANSWER_TOKENS, eosTokenIds, onToken, signal }),
    );
  }
  onProgress?.({ what, done: total, total, unit: "prompts" });
  const texts = await pool.texts(answers, "prompts: an answer", { skipSpecialTokens: true });
  return texts.map((text) => text.trim());
}
