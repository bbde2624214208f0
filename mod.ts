/**
 * Preference alignment of language models from TypeScript, on any GPU that WebGPU reaches.
 *
 * `train` runs a whole training, with data and a loss of your own if you like, and `loadModel` has a model answer and
 * be measured. The parts that these are made of are in `lib/engine.ts`. Importing this module does nothing by itself.
 *
 * @example Train on pairs from memory, stop early, save, and ask
 * ```ts
 * import { loadModel, train } from "./mod.ts";
 * import assert from "node:assert/strict";
 *
 * const stop = new AbortController();
 * const keys = {
 *   model_name_or_path: "configs/tiny/model",
 *   output_dir: "out/scripted",
 *   overwrite_output_dir: true,
 *   per_device_train_batch_size: 1,
 * };
 * const data = [
 *   { prompt: "What is the capital of Italy?", chosen: " Rome.", rejected: " Milan, I think." },
 *   { prompt: "What is the capital of Norway?", chosen: " Oslo.", rejected: " Bergen, I think." },
 * ];
 * {
 *   await using run = await train(keys, { data, signal: stop.signal, onStep: () => stop.abort() });
 *   assert.ok(run.isStopped);
 *   await run.save();
 * }
 * await using model = await loadModel("out/scripted", { maxLength: 64 });
 * const { loss } = await model.evaluate(data);
 * assert.ok(loss < 0);
 * for await (const piece of model.generate("What is the capital of Italy?", { maxNewTokens: 4 })) console.log(piece);
 * ```
 *
 * @example A configuration from a script; mistakes in it are told all at once, and before anything is touched
 * ```ts
 * import { defineConfig, UserError } from "./mod.ts";
 * import assert from "node:assert/strict";
 *
 * const config = defineConfig({ model_name_or_path: "HuggingFaceTB/SmolLM2-135M-Instruct", max_steps: 100 });
 * assert.equal(config.lossType, "simper");
 * assert.throws(
 *   () => defineConfig({ model_name_or_path: "models/mine", max_length: 1.5, learning_rate: -1 }),
 *   (error) => error instanceof UserError && error.code === "CONFIG_INVALID" && error.message.split("\n").length === 2,
 * );
 * ```
 *
 * @module
 */
export { UserError } from "./lib/errors.ts";
export { defineConfig, readConfig } from "./lib/config/parse.ts";
export type { RunKeys, TrainConfig } from "./lib/config/schema.ts";

export { train } from "./lib/run/train.ts";
export type { TrainOptions } from "./lib/run/options.ts";
export type { StepProgress } from "./lib/training/step_progress.ts";
export type { Communicator } from "./lib/distributed/communicator.ts";
export type { TrainRun } from "./lib/run/outcome.ts";
export type { LogEntry } from "./lib/training/log_entry.ts";
export type { Progress } from "./lib/progress/progress.ts";
export type {
  BuiltInLoss,
  FunctionLoss,
  Loss,
  LossValue,
  ResponseSums,
  WgslLoss,
} from "./lib/losses/loss.ts";
export { LOSS_NAMES, losses, type LossName, type LossType } from "./lib/losses/losses.ts";

export type { Answer, AnswerOptions } from "./lib/generation/answer.ts";
export { loadModel, type LoadOptions, type Model, type RowLogProbabilities } from "./lib/generation/model.ts";
export type { GpuChoice, WebgpuEngine } from "./lib/gpu/device.ts";
export type { AnswerEnd } from "./lib/generation/pieces.ts";
export type { Sampling } from "./lib/generation/request.ts";
export type { Metrics } from "./lib/training/metrics.ts";
export type { Message } from "./lib/tokenizer/chat_template.ts";
export type { PreferenceRow, Rows } from "./lib/data/memory.ts";
