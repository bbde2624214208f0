import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface HeliumConfig extends GatedConfig {
  /** Of queries, keys and values. */
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_helium.py`: Llama whose rotation takes pairs of neighbours. */
export const helium: Architecture<HeliumConfig> = {
  modelType: "helium",
  className: "HeliumForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 48000,
      hidden_size: 2560,
      num_hidden_layers: 24,
      max_position_embeddings: 4096,
      pad_token_id: 3,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 20, num_key_value_heads: 20, head_dim: 128 });
    const { numAttentionHeads, headDim } = heads;
    if (numAttentionHeads * headDim !== base.hiddenSize && fields.problems.length === 0) {
      fields.problem(
        `head_dim: ${headDim} times num_attention_heads ${numAttentionHeads} must be hidden_size ${base.hiddenSize}`,
      );
    }
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 7040, rms_norm_eps: 1e-8 }, {
        theta: 100_000,
        interleaved: true,
      }),
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.rmsNormEps];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = qkvProjection(net, h, shape, { bias: c.attentionBias });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      const normed = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, gatedMlp(net, normed, c, { bias: c.mlpBias }));
    });
  },
};
