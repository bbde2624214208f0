import type { Net } from "../graph/net.ts";
import type { Architecture, ModelConfig } from "./architecture.ts";
import { exaone } from "./exaone.ts";
import { exaone4 } from "./exaone4.ts";
import { llama } from "./llama.ts";
import { ministral } from "./ministral.ts";
import { mistral } from "./mistral.ts";
import { olmo2 } from "./olmo2.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { seedOss } from "./seed_oss.ts";
import { smollm3 } from "./smollm3.ts";

/** Every architecture, by transformers' `model_type`. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map(
  [exaone, exaone4, llama, ministral, mistral, olmo2, qwen2, qwen3, seedOss, smollm3].map((
    architecture: Architecture,
  ) => [architecture.modelType, architecture]),
);

/** The architecture of a model whose configuration was parsed. */
export const architectureOf = ({ modelType }: ModelConfig): Architecture => ARCHITECTURES.get(modelType)!;

/** What a model computes, traced from its file. */
export const netOf = (config: ModelConfig): Net => architectureOf(config).net(config);
