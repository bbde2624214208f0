import type { RopeSpec } from "../graph/rope_table.ts";
import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  type GatedConfig,
  headKeys,
  intermediateSize,
  type LayerType,
  layerTypes,
  noDropout,
  type Windows,
  windowsOf,
} from "./keys.ts";
import { parseRopes } from "./rope.ts";

export interface Olmo3Config extends Omit<GatedConfig, "rope">, Windows {
  /** Only that of full attention is scaled. */
  ropes: Record<LayerType, RopeSpec>;
  attentionBias: boolean;
}

/**
 * transformers' `modeling_olmo3.py`: OLMo 2 with a window in three layers of four, and a rotation for each layer
 * type.
 */
export const olmo3: Architecture<Olmo3Config> = {
  modelType: "olmo3",
  className: "Olmo3ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 50304,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
      pad_token_id: 1,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads"]);
    noDropout(fields, ["attention_dropout"]);
    // The class makes a mask for it whether a layer has one or not: null is refused.
    const window = fields.count("sliding_window", 2 ** 31, 4096);
    const rope = { ...base, ...heads, theta: 500_000 };
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 11008),
      hiddenAct: activation(fields, "hidden_act", "silu"),
      rmsNormEps: fields.positive("rms_norm_eps", 1e-5),
      // The class gives the key outside to full attention alone.
      ropes: parseRopes(fields, { full_attention: rope, sliding_attention: { ...rope, thetaKey: null } }),
      attentionBias: fields.boolean("attention_bias"),
      slidingWindow: window,
      layerTypes: layerTypes(
        fields,
        base,
        window,
        (l) => (l + 1) % 4 > 0 ? "sliding_attention" : "full_attention",
      ),
    };
  },

  net(c) {
    const [shape, windows, epsilon, bias] = [attentionShape(c), windowsOf(c), c.rmsNormEps, c.attentionBias];

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const qkv = qkvProjection(net, x, shape, { bias });
      const normed = net.headNorm(qkv, { q: "self_attn.q_norm", k: "self_attn.k_norm" }, shape, epsilon, {
        weights: "whole",
      });
      const rotated = net.rope(normed, shape, c.ropes[c.layerTypes[l]]);
      const heads = net.attention(rotated, shape, { window: windows[l] });
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias });
      x = net.add(x, net.rmsNorm(attended, "post_attention_layernorm", epsilon));
      return net.add(x, net.rmsNorm(gatedMlp(net, x, c), "post_feedforward_layernorm", epsilon));
    });
  },
};
