import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  layerTypes,
  multipleOf,
  noDropout,
  type Windows,
  windowsOf,
} from "./keys.ts";

export interface CwmConfig extends GatedConfig, Windows {
  mlpBias: boolean;
}

/** transformers' `modeling_cwm.py` (Code World Model): Llama with a window in three layers of four. */
export const cwm: Architecture<CwmConfig> = {
  modelType: "cwm",
  className: "CwmForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 128256,
      hidden_size: 6144,
      num_hidden_layers: 64,
      max_position_embeddings: 131072,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 48, num_key_value_heads: 8, head_dim: 128 });
    multipleOf(fields, { ...base, ...heads });
    noDropout(fields, ["attention_dropout"]);
    // The class makes a mask for it whether a layer has one or not: null is refused.
    const window = fields.count("sliding_window", 2 ** 31, 8192);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 21504, rms_norm_eps: 1e-5 }, {
        theta: 1_000_000,
        parameters: {
          rope_theta: 1_000_000,
          rope_type: "llama3",
          factor: 16,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
        },
      }),
      mlpBias: fields.boolean("mlp_bias"),
      slidingWindow: window,
      layerTypes: layerTypes(
        fields,
        base,
        window,
        (l) => l % 4 > 0 ? "sliding_attention" : "full_attention",
      ),
    };
  },

  net(c) {
    const [shape, windows, epsilon] = [attentionShape(c), windowsOf(c), c.rmsNormEps];

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape);
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window: windows[l] });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      const normed = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, gatedMlp(net, normed, c, { bias: c.mlpBias }));
    });
  },
};
