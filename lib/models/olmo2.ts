import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface Olmo2Config extends GatedConfig {
  attentionBias: boolean;
}

/**
 * transformers' `modeling_olmo2.py`: norms after attention and MLP instead of before, and all queries normed as one
 * row, as are all keys.
 */
export const olmo2: Architecture<Olmo2Config> = {
  modelType: "olmo2",
  className: "Olmo2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 50304,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
      pad_token_id: 1,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads"]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 11008, rms_norm_eps: 1e-5 }),
      attentionBias: fields.boolean("attention_bias"),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];
    const bias = c.attentionBias;

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = qkvProjection(net, x, shape, { bias });
      const normed = net.headNorm(qkv, { q: "self_attn.q_norm", k: "self_attn.k_norm" }, shape, epsilon, {
        weights: "whole",
      });
      const heads = net.attention(net.rope(normed, shape, rope), shape);
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias });
      x = net.add(x, net.rmsNorm(attended, "post_attention_layernorm", epsilon));
      return net.add(x, net.rmsNorm(gatedMlp(net, x, c), "post_feedforward_layernorm", epsilon));
    });
  },
};
