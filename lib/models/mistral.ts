import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  noDropout,
  noLayerTypes,
  slidingWindow,
} from "./keys.ts";

export interface MistralConfig extends GatedConfig {
  /** A token sees this many tokens back, itself included, in every layer; absent: all of them. */
  slidingWindow?: number;
}

/** transformers' `modeling_mistral.py`: Llama with a window, without biases. */
export const mistral: Architecture<MistralConfig> = {
  modelType: "mistral",
  className: "MistralForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 4096 * 32,
    });
    noDropout(fields, ["attention_dropout"]);
    // With them transformers takes another class, Ministral's.
    noLayerTypes(fields);
    const heads = headKeys(fields, base, { num_attention_heads: 32, num_key_value_heads: 8 }, ["head_dim"]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 14336, rms_norm_eps: 1e-6 }),
      slidingWindow: slidingWindow(fields, 4096),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.rmsNormEps];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape);
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window: c.slidingWindow });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c));
    });
  },
};
