import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface SeedOssConfig extends GatedConfig {
  /** Of queries, keys and values. */
  attentionBias: boolean;
  attentionOutBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_seed_oss.py`: Llama whose output projection has a bias key of its own. */
export const seedOss: Architecture<SeedOssConfig> = {
  modelType: "seed_oss",
  className: "SeedOssForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 155136,
      hidden_size: 4096,
      num_hidden_layers: 64,
      max_position_embeddings: 524288,
      pad_token_id: 1,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "residual_dropout"], 0.1);
    const heads = headKeys(fields, base, { num_attention_heads: 80, num_key_value_heads: 8, head_dim: 128 }, [
      "num_key_value_heads",
      "head_dim",
    ]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 27648, rms_norm_eps: 1e-6 }),
      attentionBias: fields.boolean("attention_bias", true),
      attentionOutBias: fields.boolean("attention_out_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = qkvProjection(net, h, shape, { bias: c.attentionBias });
      const heads = net.attention(net.rope(qkv, shape, rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias: c.attentionOutBias }));
      const normed = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, gatedMlp(net, normed, c, { bias: c.mlpBias }));
    });
  },
};
