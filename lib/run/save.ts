import { basename } from "node:path";
import { saveWeights } from "../adapters/save.ts";
import { beginFlush } from "../checkpoint/flush.ts";
import { checkPlaces, openOutput } from "../checkpoint/output.ts";
import { findStart } from "../checkpoint/start.ts";
import { describeRounding, watchRounding } from "../checkpoint/rounding.ts";
import { savedAdapter, withSavedSources } from "../checkpoint/tensors.ts";
import type { TrainConfig } from "../config/schema.ts";
import { heed } from "../progress/heed.ts";
import { hubName, localSources } from "../hub/hub.ts";
import { writeModelFiles } from "../hub/model_files.ts";
import { writeReportHtml } from "../report/html.ts";
import { writeModelCard } from "../report/model_card.ts";
import { writeFacts } from "../report/run_log.ts";
import { runFacts, type RunReport } from "../report/run_report.ts";
import { allResults, trainMetrics, writeAllResults, writeTrainerState } from "../checkpoint/trainer_state.ts";
import { bytesOfRun } from "../planning/plan.ts";
import { type TensorSource, withProgress } from "../safetensors/write.ts";
import type { TrainOptions } from "./options.ts";
import type { RunParts } from "./outcome.ts";
import { VERSION } from "../program/version.ts";

/**
 * Refuses an output folder that cannot be written to, that another run has, or that holds anything but an unfinished
 * run of `config`, and one in which the run would write over what it reads: before a run begins.
 * @throws {UserError} (status 2), for the last but one unless `overwrite_output_dir` is set.
 */
export async function checkOutputFolder(config: TrainConfig): Promise<void> {
  await checkPlaces(config, localSources(config));
  const output = await openOutput(config.outputDir, () => {});
  try {
    await findStart(config);
  } finally {
    await output.close();
  }
}

/**
 * Writes all that a run leaves in its output folder: the model in the source's form, figures, model card, report.
 *
 * @returns the content of all_results.json.
 * @throws {UserError} where a file cannot be written; the reason of `signal`, where it comes before the end and the
 * run can go on from its last checkpoint. Without one, the result is written whatever comes.
 */
export async function saveRun(
  { outcome, state, gpu, planned, prepared, checkpoint, modelFiles, files, provenance, communicator }:
    RunParts,
  { signal, onProgress, onLog }: Pick<TrainOptions, "signal" | "onProgress" | "onLog"> = {},
): Promise<Record<string, number>> {
  const { config } = outcome;
  const { outputDir } = config;
  const { sources } = prepared;
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
    answers: [...outcome.answers],
    modelFiles: modelFiles.filter(({ path }) => !checkpoint || basename(path) !== "config.json"),
    dataFiles: [...prepared.train.files, ...prepared.test?.files ?? []],
    memoryBytes: bytesOfRun(planned),
    device: gpu.name,
    version: VERSION,
    provenance,
  };
  // Before the weights, which may take minutes: whoever watches the run sees the answers now.
  await writeFacts(outputDir, runFacts(report));
  const until = outcome.isKept ? signal : undefined;
  const trained = { gpu, planned, prepared, source: checkpoint };
  await withSavedSources(trained, communicator, "weights", async ({ weights }) => {
    const { sources, found } = watchRounding(trained, weights);
    const heeded = sources.map((source) => heeding(source, until));
    const shown = withProgress(heeded, "saving the model", onProgress);
    await saveWeights(outputDir, shown, savedAdapter(config, prepared));
    const rounding = describeRounding(found);
    if (rounding !== undefined) onLog?.("info", rounding);
  });
  await writeModelFiles(files, outputDir);
  await heed(until);

  await writeModelCard(outputDir, report, hubName(config, sources));
  await writeReportHtml(outputDir, report);
  await writeTrainerState(outputDir, state);
  await (await beginFlush(outputDir)).done;
  // Last: a folder that has it holds a finished run.
  await writeAllResults(outputDir, results);
  return results;
}

/** What other ranks than the first do while that saves the run: they send it what they have. */
export async function sendSaved(
  { gpu, planned, prepared, checkpoint, communicator }: RunParts,
): Promise<void> {
  const trained = { gpu, planned, prepared, source: checkpoint };
  await withSavedSources(trained, communicator, "weights", () => Promise.resolve());
}

/** A tensor that is not written to its end once `signal` is aborted. */
function heeding(source: TensorSource, signal: AbortSignal | undefined): TensorSource {
  return {
    ...source,
    chunks: async function* () {
      for await (const chunk of source.chunks()) {
        await heed(signal);
        yield chunk;
      }
    },
  };
}
