import { basename } from "node:path";
import { beginFlush } from "./checkpoint/flush.ts";
import { findStart } from "./checkpoint/start.ts";
import { weightSources } from "./checkpoint/tensors.ts";
import type { TrainConfig } from "./config/schema.ts";
import { hubName } from "./hub/hub.ts";
import { copyModelFiles } from "./model/folder.ts";
import { writeReportHtml } from "./report/html.ts";
import { writeModelCard } from "./report/model_card.ts";
import type { RunReport } from "./report/run_report.ts";
import { allResults, trainMetrics, writeAllResults, writeTrainerState } from "./report/trainer_state.ts";
import { saveCheckpoint } from "./safetensors_write.ts";
import type { TrainOutcome } from "./train.ts";
import { VERSION } from "./version.ts";

/**
 * Refuses an output folder that holds anything but an unfinished run of `config`, before a run begins.
 * @throws {UserError} (status 2) unless `overwrite_output_dir` is set.
 */
export async function checkOutputFolder(config: TrainConfig): Promise<void> {
  await findStart(config);
}

/** Writes all that a run leaves in its output folder: the model in the source's form, figures, model card, report. */
export async function saveRun(outcome: TrainOutcome): Promise<RunReport> {
  const { config, planned, gpu, checkpoint, prepared, state } = outcome;
  const { outputDir } = config;
  const { sources } = prepared;
  await saveCheckpoint(outputDir, weightSources({ gpu, planned, prepared, source: checkpoint }));
  await copyModelFiles(sources.model, outputDir);

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
    config.loadBestModelAtEnd ? outcome.weightsStep : undefined,
  );
  const report: RunReport = {
    config,
    state,
    results,
    answers: outcome.answers,
    modelFiles: outcome.modelFiles.filter(({ path }) => !checkpoint || basename(path) !== "config.json"),
    dataFiles: [...outcome.prepared.train.files, ...outcome.prepared.test?.files ?? []],
    device: gpu.name,
    version: VERSION,
  };
  await writeAllResults(outputDir, results);
  await writeModelCard(outputDir, report, hubName(config, sources));
  await writeReportHtml(outputDir, report);
  await (await beginFlush(outputDir)).done;
  // Last: a folder that has it holds a finished run.
  await writeTrainerState(outputDir, state);
  return report;
}
