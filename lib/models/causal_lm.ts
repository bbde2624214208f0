import type { Norm } from "../gpu/norm_operations.ts";
import type { LogitOptions } from "../gpu/operations.ts";
import type { Value } from "../graph/graph.ts";
import { Net } from "../graph/net.ts";
import type { ModelConfig } from "./architecture.ts";

/** What stands around the layers of most models, by name. */
const NAMES = {
  embedding: "model.embed_tokens",
  layers: "model.layers",
  norm: "model.norm",
  head: "lm_head",
};

export interface CausalLmOptions extends LogitOptions {
  /** Those that are others. */
  names?: Partial<typeof NAMES>;
  /** Multiplies the embeddings. */
  embeddingScale?: number;
  /** Whether the head has a bias. */
  headBias?: boolean;
}

/**
 * What stands around the layers of most models (transformers' `ForCausalLM`): embedding, final norm, head.
 * @param norm of which kind the final norm is.
 */
export function causalLm(
  c: ModelConfig,
  norm: Norm,
  layer: (net: Net, x: Value, index: number) => Value,
  { names, embeddingScale, headBias, ...logits }: CausalLmOptions = {},
): Net {
  const { embedding, layers, norm: finalNorm, head } = { ...NAMES, ...names };
  const net = new Net();
  let x = net.embedding(embedding, c.vocabSize, c.hiddenSize, {
    padTokenId: c.padTokenId,
    scale: embeddingScale,
  });
  for (let l = 0; l < c.numHiddenLayers; l++) {
    x = net.layer(`${layers}.${l}`, x, (x) => layer(net, x, l));
  }
  const output = {
    name: c.tieWordEmbeddings ? embedding : head,
    rows: c.vocabSize,
    ...(headBias && { bias: `${head}.bias` }),
  };
  net.labels(x, { name: finalNorm, ...norm }, output, logits);
  return net;
}
