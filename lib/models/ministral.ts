import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  layerTypes,
  noDropout,
  type Windows,
  windowsOf,
} from "./keys.ts";

export interface MinistralConfig extends GatedConfig, Windows {}

/** transformers' `modeling_ministral.py`: Mistral with a window in some of its layers. */
export const ministral: Architecture<MinistralConfig> = {
  modelType: "ministral",
  className: "MinistralForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 4096 * 32,
    });
    noDropout(fields, ["attention_dropout"]);
    // The class makes a mask for it whether a layer has one or not: null is refused.
    const window = fields.count("sliding_window", 2 ** 31, 4096);
    const heads = headKeys(fields, base, {
      num_attention_heads: 32,
      num_key_value_heads: 8,
      head_dim: "required",
    });
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 14336, rms_norm_eps: 1e-6 }),
      slidingWindow: window,
      layerTypes: layerTypes(fields, base, window, () => "sliding_attention"),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];
    const windows = windowsOf(c);

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape);
      const heads = net.attention(net.rope(qkv, shape, rope), shape, { window: windows[l] });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c));
    });
  },
};
