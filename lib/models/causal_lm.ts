import type { Window } from "../batch/batch.ts";
import type { Value } from "../graph/graph.ts";
import { Net } from "../graph/net.ts";
import type { ModelConfig } from "./config.ts";

export const EMBEDDING = "model.embed_tokens.weight";
export const HEAD = "lm_head.weight";

/** What stands around the layers of most models (transformers' `ForCausalLM`): embedding, final norm, head. */
export function causalLm(c: ModelConfig, layer: (net: Net, x: Value, index: number) => Value): Net {
  const net = new Net();
  let x = net.embedding("model.embed_tokens", c.vocabSize, c.hiddenSize, { padTokenId: c.padTokenId });
  for (let l = 0; l < c.numHiddenLayers; l++) {
    x = net.layer(`model.layers.${l}`, x, (x) => layer(net, x, l));
  }
  net.labels(x, "model.norm", c.rmsNormEps, {
    name: c.tieWordEmbeddings ? "model.embed_tokens" : "lm_head",
    rows: c.vocabSize,
  });
  return net;
}

/** How far back a token sees in a layer. */
export const windowOf = ({ layerTypes, slidingWindow }: ModelConfig, layer: number): Window =>
  layerTypes?.[layer] === "full_attention" ? undefined : slidingWindow;
