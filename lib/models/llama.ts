import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  multipleOf,
  noDropout,
  onlyFullAttention,
} from "./keys.ts";

export interface LlamaConfig extends GatedConfig {
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_llama.py`. */
export const llama: Architecture<LlamaConfig> = {
  modelType: "llama",
  className: "LlamaForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads", "head_dim"]);
    multipleOf(fields, { ...base, ...heads });
    noDropout(fields, ["attention_dropout"]);
    onlyFullAttention(fields, base);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 11008, rms_norm_eps: 1e-6 }),
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.rmsNormEps];
    const [attention, mlp] = [{ bias: c.attentionBias }, { bias: c.mlpBias }];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = qkvProjection(net, net.rmsNorm(x, "input_layernorm", epsilon), shape, attention);
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, attention));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon), c, mlp));
    });
  },
};
