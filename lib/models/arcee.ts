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

export interface ArceeConfig extends PlainConfig {
  rmsNormEps: number;
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_arcee.py` (AFM): Llama with a plain MLP of squared ReLU. */
export const arcee: Architecture<ArceeConfig> = {
  modelType: "arcee",
  className: "ArceeForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 2560,
      num_hidden_layers: 32,
      max_position_embeddings: 4096,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads", "head_dim"]);
    multipleOf(fields, { ...base, ...heads });
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 18432),
      hiddenAct: activation(fields, "hidden_act", "relu2"),
      rmsNormEps: fields.positive("rms_norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads }),
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
      const mlpInput = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, plainMlp(net, mlpInput, ["mlp.up_proj", "mlp.down_proj"], c, mlp));
    });
  },
};
