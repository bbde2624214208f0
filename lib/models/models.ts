import type { Net } from "../graph/net.ts";
import type { ModelConfig } from "./config.ts";
import { llama } from "./llama.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";

/** The forward pass of each `model_type`. */
const MODELS: Record<ModelConfig["modelType"], (config: ModelConfig) => Net> = {
  llama,
  mistral: llama,
  qwen2,
  qwen3,
};

/** What a model computes, traced from its file. */
export const netOf = (config: ModelConfig): Net => MODELS[config.modelType](config);
