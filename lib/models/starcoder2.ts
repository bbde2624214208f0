import type { Architecture } from "./architecture.ts";
import { attentionShape, plainMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  headKeys,
  intermediateSize,
  noDropout,
  onlyFullAttention,
  type PlainConfig,
  slidingWindow,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface Starcoder2Config extends PlainConfig {
  normEpsilon: number;
  slidingWindow?: number;
  useBias: boolean;
}

/** transformers' `modeling_starcoder2.py`: LayerNorm, a plain MLP and a window in every layer. */
export const starcoder2: Architecture<Starcoder2Config> = {
  modelType: "starcoder2",
  className: "Starcoder2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 49152,
      hidden_size: 3072,
      num_hidden_layers: 30,
      max_position_embeddings: 4096,
      tie_word_embeddings: true,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "residual_dropout", "embedding_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 24, num_key_value_heads: 2 }, ["head_dim"]);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 12288),
      hiddenAct: activation(fields, "hidden_act", "gelu_pytorch_tanh"),
      normEpsilon: fields.positive("norm_epsilon", 1e-5),
      rope: parseRope(fields, { ...base, ...heads }),
      slidingWindow: slidingWindow(fields, undefined),
      useBias: fields.boolean("use_bias", true),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.normEpsilon];
    const options = { bias: c.useBias };

    return causalLm(c, { kind: "layer", epsilon, bias: true }, (net, x) => {
      const qkv = qkvProjection(
        net,
        net.layerNorm(x, "input_layernorm", epsilon, { bias: true }),
        shape,
        options,
      );
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window: c.slidingWindow });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, options));
      const h = net.layerNorm(x, "post_attention_layernorm", epsilon, { bias: true });
      return net.add(x, plainMlp(net, h, ["mlp.c_fc", "mlp.c_proj"], c, options));
    });
  },
};
