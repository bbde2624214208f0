import type { Norm } from "../gpu/norm_operations.ts";
import type { Value } from "../graph/graph.ts";
import { Net } from "../graph/net.ts";
import type { ModelConfig } from "./architecture.ts";

/**
 * What stands around the layers of most models (transformers' `ForCausalLM`): embedding, final norm, head.
 * @param norm of which kind the final norm is.
 */
export function causalLm(
  c: ModelConfig,
  norm: Norm,
  layer: (net: Net, x: Value, index: number) => Value,
): Net {
  const net = new Net();
  let x = net.embedding("model.embed_tokens", c.vocabSize, c.hiddenSize, { padTokenId: c.padTokenId });
  for (let l = 0; l < c.numHiddenLayers; l++) {
    x = net.layer(`model.layers.${l}`, x, (x) => layer(net, x, l));
  }
  net.labels(x, { name: "model.norm", ...norm }, {
    name: c.tieWordEmbeddings ? "model.embed_tokens" : "lm_head",
    rows: c.vocabSize,
  });
  return net;
}
