import type { Net } from "../graph/net.ts";
import type { Architecture, ModelConfig } from "./architecture.ts";
import { arcee } from "./arcee.ts";
import { cohere } from "./cohere.ts";
import { cohere2 } from "./cohere2.ts";
import { cwm } from "./cwm.ts";
import { ernie45 } from "./ernie4_5.ts";
import { exaone } from "./exaone.ts";
import { exaone4 } from "./exaone4.ts";
import { falcon } from "./falcon.ts";
import { gemma } from "./gemma.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3Text } from "./gemma3_text.ts";
import { glm4 } from "./glm4.ts";
import { gptNeox } from "./gpt_neox.ts";
import { granite } from "./granite.ts";
import { helium } from "./helium.ts";
import { hunyuanV1Dense } from "./hunyuan_v1_dense.ts";
import { jais2 } from "./jais2.ts";
import { llama } from "./llama.ts";
import { ministral } from "./ministral.ts";
import { mistral } from "./mistral.ts";
import { nemotron } from "./nemotron.ts";
import { olmo2 } from "./olmo2.ts";
import { olmo3 } from "./olmo3.ts";
import { persimmon } from "./persimmon.ts";
import { phi } from "./phi.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { seedOss } from "./seed_oss.ts";
import { smollm3 } from "./smollm3.ts";
import { stablelm } from "./stablelm.ts";
import { starcoder2 } from "./starcoder2.ts";
import { vaultgemma } from "./vaultgemma.ts";

const ALL: readonly Architecture[] = [
  arcee,
  cohere,
  cohere2,
  cwm,
  ernie45,
  exaone,
  exaone4,
  falcon,
  gemma,
  gemma2,
  gemma3Text,
  glm4,
  gptNeox,
  granite,
  helium,
  hunyuanV1Dense,
  jais2,
  llama,
  ministral,
  mistral,
  nemotron,
  olmo2,
  olmo3,
  persimmon,
  phi,
  phi3,
  qwen2,
  qwen3,
  seedOss,
  smollm3,
  stablelm,
  starcoder2,
  vaultgemma,
];

/** Every architecture, by transformers' `model_type`. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map(
  ALL.map((architecture) => [architecture.modelType, architecture]),
);

/** The architecture of a model whose configuration was parsed. */
export const architectureOf = ({ modelType }: ModelConfig): Architecture => ARCHITECTURES.get(modelType)!;

/** What a model computes, traced from its file. */
export const netOf = (config: ModelConfig): Net => architectureOf(config).net(config);
