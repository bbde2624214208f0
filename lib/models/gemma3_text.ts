import type { RopeSpec } from "../graph/rope_table.ts";
import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { type Gemma2Config, gemma2Keys } from "./gemma2.ts";
import { type LayerType, onlyCausal, windowPattern, windowsOf } from "./keys.ts";
import { parseRopes } from "./rope.ts";

export interface Gemma3TextConfig extends Omit<Gemma2Config, "rope"> {
  ropes: Record<LayerType, RopeSpec>;
}

/**
 * transformers' `modeling_gemma3.py`, the text model: Gemma 2 with queries and keys normed head by head, a rotation
 * for each layer type, five windows to a full layer, and no cap on scores.
 */
export const gemma3Text: Architecture<Gemma3TextConfig> = {
  modelType: "gemma3_text",
  className: "Gemma3ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const keys = gemma2Keys(fields, {
      vocab_size: 262208,
      max_position_embeddings: 131072,
      layerType: windowPattern(fields, 6),
    });
    onlyCausal(fields);
    return {
      ...keys,
      ropes: parseRopes(fields, {
        full_attention: { ...keys, theta: 1_000_000 },
        sliding_attention: { ...keys, thetaKey: "rope_local_base_freq" },
      }),
    };
  },

  net(c) {
    const [shape, windows, bias] = [attentionShape(c), windowsOf(c), c.attentionBias];
    const [epsilon, onePlus] = [c.rmsNormEps, true];
    // The class's attention passes over attn_logit_softcapping.
    const scale = c.queryPreAttnScalar ** -0.5;
    const norms = { q: "self_attn.q_norm", k: "self_attn.k_norm" };

    return causalLm(c, { kind: "rms", epsilon, onePlus }, (net, x, l) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon, { onePlus });
      const qkv = net.headNorm(qkvProjection(net, h, shape, { bias }), norms, shape, epsilon, { onePlus });
      const rotated = net.rope(qkv, shape, c.ropes[c.layerTypes[l]]);
      const heads = net.attention(rotated, shape, { window: windows[l], scale });
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias });
      x = net.add(x, net.rmsNorm(attended, "post_attention_layernorm", epsilon, { onePlus }));
      const mlp = gatedMlp(net, net.rmsNorm(x, "pre_feedforward_layernorm", epsilon, { onePlus }), c);
      return net.add(x, net.rmsNorm(mlp, "post_feedforward_layernorm", epsilon, { onePlus }));
    }, { embeddingScale: Math.sqrt(c.hiddenSize), logitSoftcap: c.finalLogitSoftcapping });
  },
};
