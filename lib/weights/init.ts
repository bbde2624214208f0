import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { ParameterSpec } from "../parameters/parameter.ts";
import type { Parameters } from "../parameters/parameters.ts";
import { show } from "../text/json.ts";
import { MULTIMODAL } from "../models/multimodal.ts";
import type { OnProgress } from "../progress/progress.ts";
import { normal } from "../random.ts";
import { readTextFile } from "../files/whole_file.ts";

/**
 * Random weights as transformers initialises a model: normal with config.json's initializer_range, norms of 1, the
 * embedding of the padding token 0.
 *
 * @param folder the model's, which `readModelConfig` has read.
 * @param options as of `Parameters.initialize`.
 * @throws {UserError} for an initializer_range that is no deviation.
 */
export async function randomInit(
  gpu: Gpu,
  parameters: Parameters,
  folder: string,
  seed: number,
  options?: { specs?: readonly ParameterSpec[]; onProgress?: OnProgress },
): Promise<void> {
  const path = join(folder, "config.json");
  const { initializer_range: deviation = 0.02, model_type: modelType } = JSON.parse(await readTextFile(path));
  if (MULTIMODAL.has(modelType)) {
    throw new UserError(
      `${path}: from_scratch makes weights of a text model alone, and this is a multimodal model's: use the ` +
        "text part's own configuration",
    );
  }
  if (typeof deviation !== "number" || !(deviation >= 0 && deviation < 1e6)) {
    throw new UserError(
      `${path}: initializer_range: expected a number from 0 to 1000000, found ${show(deviation)}`,
    );
  }
  // 0 is Python's "not set".
  parameters.initialize(gpu, normal(seed), deviation || 0.02, options);
}
