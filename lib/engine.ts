/**
 * The parts that runs are made of, for programs that put them together in another way; `mod.ts` has what most scripts
 * want.
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
export { type FetchEvents, resolveDataset, resolveModel, type ResolveOptions } from "./hub/hub.ts";
export { type HubSettings, hubSettings } from "./hub/settings.ts";
export { openUpload, type Upload } from "./hub/upload.ts";

export type { Dtype, FloatDtype } from "./safetensors/dtype.ts";
export { type Checkpoint, openCheckpoint, openSafetensors, type TensorReader } from "./safetensors/read.ts";
export type { TensorInfo } from "./safetensors/header.ts";
export {
  saveCheckpoint,
  type TensorSource,
  type WriteOptions,
  writeSafetensors,
} from "./safetensors/write.ts";

export { loadTokenizer, type Tokenizer, type Vocabulary } from "./tokenizer/tokenizer.ts";
export type { ApplyChatTemplate, Message } from "./tokenizer/chat_template.ts";

export { type PoolOptions, TokenizerPool } from "./data/pool.ts";
export { type MemoryRows, memoryRows, type PreferenceRow, type Rows } from "./data/memory.ts";
export type { Place, Row } from "./data/row.ts";
export type { DataSet } from "./data/read.ts";
export type { HashedFile } from "./data/hash.ts";
export type { PairRules } from "./data/pair_of.ts";
export type { RenderOptions } from "./data/render.ts";
export type { Truncation } from "./data/tokenize.ts";
export { openPairs, type PairOptions } from "./data/pairs.ts";
export { type CountedNotice, describeNotice } from "./data/notices.ts";
export type { PairStatistics, PairStore } from "./data/store.ts";
export { type PackedSize, packedSize, type PackedSizes, type Pair, type Sequence } from "./data/pair.ts";
export { type Batch, pack } from "./batch/pack.ts";
export type { Mask, Window } from "./batch/mask.ts";

export type { ModelConfig } from "./models/architecture.ts";
export { parseModelConfig } from "./models/config.ts";
export { netOf } from "./models/models.ts";
export { readModelConfig } from "./weights/config_file.ts";
export type { ParameterTensor, SavedTensor } from "./parameters/saved_tensor.ts";
export { type ModelWeights, openModel, readModel } from "./weights/weights.ts";
export { findModel, type FindOptions, type ModelFolder, openFound } from "./adapters/model.ts";

export { type Gpu, type GpuChoice, openGpu, type Subgroups, type WebgpuEngine } from "./gpu/device.ts";
export type { Matrices } from "./gpu/matrices.ts";
export type { Purpose } from "./gpu/memory.ts";
export type { MemoryPlan } from "./gpu/memory_plan.ts";
export { Pipelines } from "./gpu/program.ts";
export { alone, type Communicator } from "./distributed/communicator.ts";
export { ALONE, type Grid } from "./distributed/grid.ts";
export type { StorageType } from "../kernels/storage.ts";
export type { Capacity, MachineOptions } from "./graph/machine.ts";
export type { MomentStorage, ParameterOptions, Share } from "./parameters/layout.ts";
export type { MomentKind } from "./optimizers/rule.ts";
export { Decoder, type DecoderOptions } from "./graph/decoder.ts";
export type { StepPlace } from "./graph/uploads.ts";

export { parseConfig, type ParsedConfig } from "./config/parse.ts";
export type { TrainConfig } from "./config/schema.ts";
export type { OnProgress, Progress } from "./progress/progress.ts";
export type { FunctionLoss } from "./losses/loss.ts";
export { evaluate } from "./training/evaluate.ts";
export { type Metrics, type PairResult, type ResponseFigures, summarize } from "./training/metrics.ts";
export { learningRate, type Schedule, type Scheduler } from "./training/schedule.ts";
export { generate, type GenerateOptions } from "./generation/generate.ts";
export { type GeneratorOptions, GpuGenerator } from "./generation/gpu_generator.ts";
export type { GeneratedToken, GenerationRequest, Generator, Sampling } from "./generation/request.ts";
export { type ExportEvents, exportGguf } from "./export/export_gguf.ts";
export type { GgmlType } from "./export/ggml.ts";
