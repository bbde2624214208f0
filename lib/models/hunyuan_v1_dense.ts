import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface HunyuanV1DenseConfig extends GatedConfig {
  attentionBias: boolean;
}

/**
 * transformers' `modeling_hunyuan_v1_dense.py`: Llama whose queries and keys are normed head by head once they are
 * rotated.
 */
export const hunyuanV1Dense: Architecture<HunyuanV1DenseConfig> = {
  modelType: "hunyuan_v1_dense",
  className: "HunYuanDenseV1ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 290943,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
      pad_token_id: 0,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32, head_dim: "required" }, [
      "num_key_value_heads",
    ]);
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 11008, rms_norm_eps: 1e-5 }, {
        alpha: true,
      }),
      attentionBias: fields.boolean("attention_bias"),
    };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.rmsNormEps, c.attentionBias];
    const norms = { q: "self_attn.query_layernorm", k: "self_attn.key_layernorm" };

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape, { bias });
      const normed = net.headNorm(net.rope(qkv, shape, c.rope), norms, shape, epsilon);
      const heads = net.attention(normed, shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c));
    });
  },
};
