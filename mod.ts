/**
 * Preference alignment of language models from TypeScript, on any GPU that WebGPU reaches.
 *
 * `train` runs a whole training from a configuration; the parts that it is made of are exported beside it. Importing this
 * module does nothing by itself.
 *
 * @example Train and save from a script
 * ```ts ignore
 * import { readConfig, saveRun, train } from "./mod.ts";
 *
 * const { config } = await readConfig("configs/tiny.yaml", ["--learning_rate=1e-4", "--output_dir=out/scripted"]);
 * const outcome = await train(config, { stepped: ({ step, loss }) => console.log(step, loss) });
 * await saveRun(outcome);
 * await outcome.destroy();
 * ```
 *
 * @module
 */
export { UserError } from "./lib/errors.ts";
export { parseConfig, type ParsedConfig, readConfig } from "./lib/config/parse.ts";
export type { TrainConfig } from "./lib/config/schema.ts";

export { train, type TrainOptions, type TrainOutcome } from "./lib/run/train.ts";
export type { StepProgress, TrainEvents } from "./lib/training/events.ts";
export { resolveDataset, resolveModel } from "./lib/hub/hub.ts";
export { openUpload } from "./lib/hub/upload.ts";
export { checkOutputFolder, saveRun } from "./lib/run/save.ts";
export type { LogEntry } from "./lib/training/log_entry.ts";
export type { TrainerState } from "./lib/checkpoint/trainer_state.ts";
export type { Answer, RunReport } from "./lib/report/run_report.ts";

export { loadTokenizer, type Message, type Tokenizer, type Vocabulary } from "./lib/tokenizer/tokenizer.ts";
export { type PoolOptions, TokenizerPool } from "./lib/data/pool.ts";
export { openPairs, type PairOptions } from "./lib/data/pairs.ts";
export { type CountedNotice, describeNotice } from "./lib/data/notices.ts";
export type { PairStatistics, PairStore } from "./lib/data/store.ts";
export { packedSize, type Pair, type Sequence } from "./lib/data/pair.ts";
export { type Batch, pack } from "./lib/batch/pack.ts";

export { type Checkpoint, openCheckpoint, openSafetensors, type TensorInfo } from "./lib/safetensors/read.ts";
export { saveCheckpoint, type TensorSource, writeSafetensors } from "./lib/safetensors/write.ts";

export { type Gpu, openGpu } from "./lib/gpu/device.ts";
export { MemoryPlan } from "./lib/gpu/memory_plan.ts";
export { Pipelines } from "./lib/gpu/program.ts";
export type { ModelConfig } from "./lib/models/architecture.ts";
export { parseModelConfig } from "./lib/models/config.ts";
export { readModelConfig } from "./lib/parameters/config_file.ts";
export { type ModelWeights, openModel, readModel, type SavedTensor } from "./lib/parameters/weights.ts";
export type { Capacity } from "./lib/graph/machine.ts";
export { Decoder, type DecoderOptions, type StepPlace } from "./lib/graph/decoder.ts";
export { AdamW, type AdamWOptions } from "./lib/training/optimizer.ts";
export { evaluate } from "./lib/training/evaluate.ts";
export { generate } from "./lib/generation/generate.ts";
export { type Metrics, type PairResult, summarize } from "./lib/training/metrics.ts";
export { learningRate, type Schedule } from "./lib/training/schedule.ts";
export type { Loss } from "./lib/losses/loss.ts";
export { losses } from "./lib/losses/losses.ts";
