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
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface NemotronConfig extends PlainConfig {
  normEps: number;
  attentionBias: boolean;
  mlpBias: boolean;
}

/**
 * transformers' `modeling_nemotron.py`: LayerNorm with a factor of 1 + weight, squared ReLU, part of each head
 * rotated.
 */
export const nemotron: Architecture<NemotronConfig> = {
  modelType: "nemotron",
  className: "NemotronForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 256000,
      hidden_size: 6144,
      num_hidden_layers: 32,
      max_position_embeddings: 4096,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout"]);
    const heads = headKeys(fields, base, { num_attention_heads: 48, num_key_value_heads: "required" }, [
      "head_dim",
    ]);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 24576),
      hiddenAct: activation(fields, "hidden_act", "relu2"),
      normEps: fields.positive("norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads, partial: 0.5, isPartialNeeded: true }),
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.normEps];
    const [attention, mlp] = [{ bias: c.attentionBias }, { bias: c.mlpBias }];
    const norm = { bias: true, onePlus: true };

    return causalLm(c, { kind: "layer", epsilon, ...norm }, (net, x) => {
      const qkv = qkvProjection(net, net.layerNorm(x, "input_layernorm", epsilon, norm), shape, attention);
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, attention));
      const h = net.layerNorm(x, "post_attention_layernorm", epsilon, norm);
      return net.add(x, plainMlp(net, h, ["mlp.up_proj", "mlp.down_proj"], c, mlp));
    });
  },
};
