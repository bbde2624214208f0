import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  noDropout,
  qwenWindow,
  type Windows,
  windowsOf,
} from "./keys.ts";

export interface Qwen2Config extends GatedConfig, Windows {
}

/** transformers' `modeling_qwen2.py`: queries, keys and values have biases, and some layers a window. */
export const qwen2: Architecture<Qwen2Config> = {
  modelType: "qwen2",
  className: "Qwen2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 151936,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 32768,
    });
    noDropout(fields, ["attention_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 32, num_key_value_heads: 32 }, [
      "num_key_value_heads",
    ]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 22016, rms_norm_eps: 1e-6 }),
      ...qwenWindow(fields, base),
    };
  },

  net(c) {
    const [shape, epsilon, windows] = [attentionShape(c), c.rmsNormEps, windowsOf(c)];

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape, { bias: true });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window: windows[l] });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c));
    });
  },
};
