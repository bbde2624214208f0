import type { Architecture } from "./architecture.ts";
import { attentionShape, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface Glm4Config extends GatedConfig {
  /** Of queries, keys and values. */
  attentionBias: boolean;
}

/**
 * transformers' `modeling_glm4.py`: norms before attention and MLP and after them, gate and up in one matrix, and a
 * rotation of half of each head that takes pairs of neighbours.
 */
export const glm4: Architecture<Glm4Config> = {
  modelType: "glm4",
  className: "Glm4ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 151552,
      hidden_size: 4096,
      num_hidden_layers: 40,
      max_position_embeddings: 131072,
      pad_token_id: 151329,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32, num_key_value_heads: 2, head_dim: 128 });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 13696, rms_norm_eps: 1.5625e-7 }, {
        partial: 0.5,
        interleaved: true,
      }),
      attentionBias: fields.boolean("attention_bias", true),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.rmsNormEps];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = qkvProjection(net, h, shape, { bias: c.attentionBias });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize });
      x = net.add(x, net.rmsNorm(attended, "post_self_attn_layernorm", epsilon));
      const gateUp = net.linear(net.rmsNorm(x, "post_attention_layernorm", epsilon), {
        "mlp.gate_up_proj": 2 * c.intermediateSize,
      });
      const mlp = net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.down_proj": c.hiddenSize });
      return net.add(x, net.rmsNorm(mlp, "post_mlp_layernorm", epsilon));
    });
  },
};
