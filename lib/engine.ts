/**
 * The parts that runs are made of, for programs that put them together in another way; `mod.ts` has what most scripts want.
 *
 * @example Pairs as one packed row: what they have in common is run once
 * ```ts
 * import { pack, packedSize } from "./engine.ts";
 * import assert from "node:assert/strict";
 * const chosen = { ids: [1, 2, 3, 9], promptLength: 2 };
 * const rejected = { ids: [1, 2, 4, 9], promptLength: 2 };
 * const pair = { chosen, rejected, truncated: false as const, where: "example" };
 * assert.equal(pack([pair]).ids.length, packedSize(pair).tokens);
 * ```
 *
 * @module
 */
export { type FetchEvents, resolveDataset, resolveModel } from "./hub/hub.ts";
export { openUpload } from "./hub/upload.ts";

export { type Checkpoint, openCheckpoint, openSafetensors } from "./safetensors/read.ts";
export type { TensorInfo } from "./safetensors/header.ts";
export { saveCheckpoint, type TensorSource, writeSafetensors } from "./safetensors/write.ts";

export { loadTokenizer, type Tokenizer, type Vocabulary } from "./tokenizer/tokenizer.ts";
export type { Message } from "./tokenizer/chat_template.ts";

export { type PoolOptions, TokenizerPool } from "./data/pool.ts";
export { openPairs, type PairOptions } from "./data/pairs.ts";
export { type CountedNotice, describeNotice } from "./data/notices.ts";
export type { PairStatistics, PairStore } from "./data/store.ts";
export { packedSize, type Pair, type Sequence } from "./data/pair.ts";
export { type Batch, pack } from "./batch/pack.ts";
export type { Mask, Window } from "./batch/mask.ts";

export type { ModelConfig } from "./models/architecture.ts";
export { parseModelConfig } from "./models/config.ts";
export { netOf } from "./models/models.ts";
export { readModelConfig } from "./weights/config_file.ts";
export type { SavedTensor } from "./parameters/saved_tensor.ts";
export { type ModelWeights, openModel, readModel } from "./weights/weights.ts";

export { type Gpu, openGpu } from "./gpu/device.ts";
export { MemoryPlan } from "./gpu/memory_plan.ts";
export { Pipelines } from "./gpu/program.ts";
export type { Capacity } from "./graph/machine.ts";
export { Decoder, type DecoderOptions } from "./graph/decoder.ts";
export type { StepPlace } from "./graph/uploads.ts";

export { type ErrorCode, type FailureStatus } from "./errors.ts";
export { parseConfig, type ParsedConfig } from "./config/parse.ts";
export type { LossValue, ResponseSums } from "./losses/loss.ts";
export type { Rows } from "./data/memory.ts";
export type { DatasetShare } from "./config/values.ts";
export type { Profile } from "./gpu/profiler.ts";
export type { Outcome } from "./run/outcome.ts";
export type { TrainerState } from "./checkpoint/trainer_state.ts";
export type { LogEntry } from "./training/log_entry.ts";
export type { StepProgress, TrainEvents, Work } from "./training/events.ts";
export type { Answer, RunReport } from "./report/run_report.ts";
export type { HashedFile } from "./data/hash.ts";
export type { OnProgress, Progress } from "./progress.ts";
export { Generation } from "./generation/pieces.ts";
export type { ResponseLogProbabilities, RowLogProbabilities } from "./generation/model.ts";

export { AdamW, type AdamWOptions } from "./training/optimizer.ts";
export { evaluate } from "./training/evaluate.ts";
export { type Metrics, type PairResult, summarize } from "./training/metrics.ts";
export { learningRate, type Schedule } from "./training/schedule.ts";
export { CachedDecoder, type CachedDecoderOptions } from "./generation/cached_decoder.ts";
export { generate, type GenerateOptions } from "./generation/generate.ts";
