import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { TrainConfig } from "./config/schema.ts";
import { UserError } from "./errors.ts";
import { hashFile } from "./hash.ts";
import { hubName } from "./hub/hub.ts";
import { copyModelFiles } from "./model/folder.ts";
import { writeReportHtml } from "./report/html.ts";
import { writeModelCard } from "./report/model_card.ts";
import type { RunReport } from "./report/run_report.ts";
import {
  allResults,
  newTrainerState,
  type TrainerState,
  trainMetrics,
  writeAllResults,
  writeTrainerState,
} from "./report/trainer_state.ts";
import { saveCheckpoint, type TensorSource } from "./safetensors_write.ts";
import type { TrainOutcome } from "./train.ts";
import { VERSION } from "./version.ts";

/**
 * Refuses an output folder that holds anything, before a run begins.
 * @throws {UserError} (status 2) unless `overwrite_output_dir` is set.
 */
export async function checkOutputFolder({ outputDir, overwriteOutputDir }: TrainConfig): Promise<void> {
  const found = await stat(outputDir).catch(() => undefined);
  if (!found) return;
  if (!found.isDirectory()) throw new UserError(`output_dir: ${outputDir} is a file, expected a folder`, 2);
  const [first] = await readdir(outputDir);
  if (first !== undefined && !overwriteOutputDir) {
    throw new UserError(
      `output_dir: ${outputDir} is not empty (it holds ${first}): name another folder, or give ` +
        "--overwrite_output_dir to replace what a run left there",
      2,
    );
  }
}

/** Writes all that a run leaves in its output folder: the model in the source's form, figures, model card, report. */
export async function saveRun(outcome: TrainOutcome): Promise<RunReport> {
  const { config, planned, gpu, checkpoint, prepared: { sources } } = outcome;
  const { outputDir } = config;
  const { parameters } = planned.decoder;
  const tensors = checkpoint ? parameters.sources(gpu, checkpoint) : newTensors(outcome);
  await saveCheckpoint(outputDir, tensors);
  await copyModelFiles(sources.model, outputDir);

  const state = trainerState(outcome);
  const results = allResults(
    state,
    trainMetrics({
      runtime: outcome.seconds,
      samples: outcome.pairs,
      steps: outcome.steps,
      meanLoss: outcome.trainLoss,
      epoch: outcome.epoch,
      totalFlos: outcome.flops,
    }),
  );
  const report: RunReport = {
    config,
    state,
    results,
    answers: outcome.answers,
    modelFiles: await Promise.all(
      (checkpoint?.files ?? [join(sources.model, "config.json")]).map(hashFile),
    ),
    dataFiles: [...outcome.prepared.train.files, ...outcome.prepared.test?.files ?? []],
    device: gpu.name,
    version: VERSION,
  };
  await writeTrainerState(outputDir, state);
  await writeAllResults(outputDir, results);
  await writeModelCard(outputDir, report, hubName(config, sources));
  await writeReportHtml(outputDir, report);
  return report;
}

function trainerState(
  { config, prepared, history, steps, epoch, tokens, flops }: TrainOutcome,
): TrainerState {
  const { totalSteps, sampler } = prepared;
  const stepsPerEpoch = Math.ceil(sampler.pairs / (sampler.perBatch * sampler.batchesPerStep));
  return {
    ...newTrainerState(config, totalSteps, stepsPerEpoch),
    global_step: steps,
    epoch,
    num_input_tokens_seen: tokens,
    total_flos: flops,
    log_history: history,
  };
}

/** A model that began from random weights is saved in the dtype that its config.json names. */
function newTensors({ planned: { decoder }, prepared, gpu }: TrainOutcome): TensorSource[] {
  const dtypes: Record<string, "BF16" | "F16" | "F32"> = { bfloat16: "BF16", float16: "F16", float32: "F32" };
  return decoder.parameters.newSources(gpu, dtypes[prepared.model.dtype ?? "float32"] ?? "F32");
}
