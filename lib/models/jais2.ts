import type { Architecture } from "./architecture.ts";
import { attentionShape, plainMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  headKeys,
  intermediateSize,
  multipleOf,
  noDropout,
  onlyFullAttention,
  type PlainConfig,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface Jais2Config extends PlainConfig {
  layerNormEps: number;
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_jais2.py`: Llama with LayerNorm, a plain MLP of squared ReLU, and biases. */
export const jais2: Architecture<Jais2Config> = {
  modelType: "jais2",
  className: "Jais2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 150272,
      hidden_size: 3328,
      num_hidden_layers: 32,
      max_position_embeddings: 8192,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 26 }, ["num_key_value_heads", "head_dim"]);
    multipleOf(fields, { ...base, ...heads });
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 26624),
      hiddenAct: activation(fields, "hidden_act", "relu2"),
      layerNormEps: fields.positive("layer_norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads }),
      attentionBias: fields.boolean("attention_bias", true),
      mlpBias: fields.boolean("mlp_bias", true),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.layerNormEps];
    const [attention, mlp] = [{ bias: c.attentionBias }, { bias: c.mlpBias }];

    return causalLm(c, { kind: "layer", epsilon, bias: true }, (net, x) => {
      const h = net.layerNorm(x, "input_layernorm", epsilon, { bias: true });
      const qkv = qkvProjection(net, h, shape, attention);
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, attention));
      const mlpInput = net.layerNorm(x, "post_attention_layernorm", epsilon, { bias: true });
      return net.add(x, plainMlp(net, mlpInput, ["mlp.up_proj", "mlp.down_proj"], c, mlp));
    });
  },
};
