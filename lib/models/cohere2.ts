import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { type CohereBase, cohereKeys } from "./cohere.ts";
import { layerTypes, windowPattern, type Windows, windowsOf } from "./keys.ts";

export interface Cohere2Config extends CohereBase, Windows {}

/**
 * transformers' `modeling_cohere2.py` (Command R7B): Cohere with windows; layers without one have no positions
 * (NoPE).
 */
export const cohere2: Architecture<Cohere2Config> = {
  modelType: "cohere2",
  className: "Cohere2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const keys = cohereKeys(fields, 10_000);
    // The class makes a mask for it whether a layer has one or not: null is refused.
    const window = fields.count("sliding_window", 2 ** 31, 4096);
    return {
      ...keys,
      slidingWindow: window,
      layerTypes: layerTypes(fields, keys, window, windowPattern(fields, 4)),
    };
  },

  net(c) {
    const [shape, windows, epsilon, bias] = [
      attentionShape(c),
      windowsOf(c),
      c.layerNormEps,
      c.attentionBias,
    ];

    return causalLm(c, { kind: "layer", epsilon }, (net, x, l) => {
      const [h, window] = [net.layerNorm(x, "input_layernorm", epsilon), windows[l]];
      const qkv = qkvProjection(net, h, shape, { bias });
      const positioned = window === undefined ? qkv : net.rope(qkv, shape, c.rope);
      const heads = net.attention(positioned, shape, { window });
      const attended = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(attended, gatedMlp(net, h, c));
    }, { logitScale: c.logitScale });
  },
};
