import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, onlyFullAttention } from "./keys.ts";

export interface Ernie45Config extends GatedConfig {
  /** Of every product in the layers. */
  useBias: boolean;
}

/** transformers' `modeling_ernie4_5.py`: Llama whose rotation takes pairs of neighbours. */
export const ernie45: Architecture<Ernie45Config> = {
  modelType: "ernie4_5",
  className: "Ernie4_5ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 103424,
      hidden_size: 1024,
      num_hidden_layers: 18,
      max_position_embeddings: 131072,
      tie_word_embeddings: true,
      pad_token_id: 0,
    });
    const heads = headKeys(fields, base, {
      num_attention_heads: 16,
      num_key_value_heads: 2,
      head_dim: 128,
    }, ["num_key_value_heads", "head_dim"]);
    onlyFullAttention(fields, base);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 3072, rms_norm_eps: 1e-5 }, {
        theta: 500_000,
        interleaved: true,
      }),
      useBias: fields.orNull("use_bias", false, () => fields.boolean("use_bias")) ?? false,
    };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.rmsNormEps, c.useBias];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape, { bias });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c, { bias }));
    });
  },
};
