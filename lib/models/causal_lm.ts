import type { Norm } from "../gpu/norm_operations.ts";
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

/**
 * What stands around the layers of most models (transformers' `ForCausalLM`): embedding, final norm, head.
 * @param norm of which kind the final norm is.
 * @param names those that are others.
 * @param headBias whether the head has a bias.
 */
export function causalLm(
  c: ModelConfig,
  norm: Norm,
  layer: (net: Net, x: Value, index: number) => Value,
  names: Partial<typeof NAMES> = {},
  { headBias = false } = {},
): Net {
  const { embedding, layers, norm: finalNorm, head } = { ...NAMES, ...names };
  const net = new Net();
  let x = net.embedding(embedding, c.vocabSize, c.hiddenSize, { padTokenId: c.padTokenId });
  for (let l = 0; l < c.numHiddenLayers; l++) {
    x = net.layer(`${layers}.${l}`, x, (x) => layer(net, x, l));
  }
  net.labels(x, { name: finalNorm, ...norm }, {
    name: c.tieWordEmbeddings ? embedding : head,
    rows: c.vocabSize,
    ...(headBias && { bias: `${head}.bias` }),
  });
  return net;
}
