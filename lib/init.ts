import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TrainConfig } from "./config/schema.ts";
import type { Gpu } from "./gpu/device.ts";
import type { Parameters } from "./model/parameters.ts";
import { normal } from "./random.ts";

/** Random weights as transformers initialises a model: normal with config.json's initializer_range, norms of 1. */
export async function randomInit(
  gpu: Gpu,
  parameters: Parameters,
  { modelNameOrPath, seed }: Pick<TrainConfig, "modelNameOrPath" | "seed">,
): Promise<void> {
  const { initializer_range: deviation = 0.02 } = JSON.parse(
    await readFile(join(modelNameOrPath, "config.json"), "utf8"),
  );
  parameters.initialize(gpu, normal(seed), deviation);
}
