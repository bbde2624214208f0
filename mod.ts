/**
 * Preference alignment of language models from TypeScript, on any GPU that WebGPU reaches.
 *
 * `train` runs a whole training from a configuration, `saveRun` writes its result, and `loadModel` has a model answer and be
 * measured. The parts that these are made of are in `lib/engine.ts`. Importing this module does nothing by itself.
 *
 * @example A configuration from a script; mistakes in it are told all at once
 * ```ts
 * import { defineConfig, loadModel, readConfig, saveRun, train } from "./mod.ts";
 * import assert from "node:assert/strict";
 *
 * const config = defineConfig({
 *   model_name_or_path: "HuggingFaceTB/SmolLM2-135M-Instruct",
 *   dataset_mixer: { "data/pairs": 1 },
 *   max_steps: 100,
 * });
 * assert.equal(config.lossType, "simper");
 * ```
 *
 * @example Train, save and ask
 * ```ts ignore
 *
 * const { config } = await readConfig("configs/tiny.yaml", ["--learning_rate=1e-4", "--output_dir=out/scripted"]);
 * const outcome = await train(config, { stepped: ({ step, loss }) => console.log(step, loss) });
 * await saveRun(outcome);
 * await outcome.destroy();
 *
 * const model = await loadModel(config.outputDir);
 * console.log(await model.generate("What is the capital of Italy?"));
 * model.destroy();
 * ```
 *
 * @module
 */
export { UserError } from "./lib/errors.ts";
export { defineConfig, parseConfig, type ParsedConfig, readConfig } from "./lib/config/parse.ts";
export type { RunKeys, TrainConfig } from "./lib/config/schema.ts";
export type { Loss } from "./lib/losses/loss.ts";
export { losses } from "./lib/losses/losses.ts";

export { train, type TrainOptions, type TrainOutcome } from "./lib/run/train.ts";
export type { StepProgress, TrainEvents } from "./lib/training/events.ts";
export { checkOutputFolder, saveRun } from "./lib/run/save.ts";
export type { TrainerState } from "./lib/checkpoint/trainer_state.ts";
export type { LogEntry } from "./lib/training/log_entry.ts";
export type { Metrics } from "./lib/training/metrics.ts";
export type { Answer, RunReport } from "./lib/report/run_report.ts";

export { type LoadedModel, loadModel, type LoadOptions, type PreferenceRow } from "./lib/generation/model.ts";
