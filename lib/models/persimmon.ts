import type { Architecture } from "./architecture.ts";
import { attentionShape, plainMlp } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  dividedHeads,
  intermediateSize,
  noDropout,
  onlyFullAttention,
  type PlainConfig,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface PersimmonConfig extends PlainConfig {
  layerNormEps: number;
  qkLayernorm: boolean;
}

/**
 * transformers' `modeling_persimmon.py`: queries, keys and values of each head lie together and are normed head by
 * head, part of each head is rotated, and every product of a layer has a bias.
 */
export const persimmon: Architecture<PersimmonConfig> = {
  modelType: "persimmon",
  className: "PersimmonForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 262144,
      hidden_size: 4096,
      num_hidden_layers: 36,
      max_position_embeddings: 16384,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "hidden_dropout"]);
    const heads = dividedHeads(fields, base, { num_attention_heads: 64 });
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 16384),
      hiddenAct: activation(fields, "hidden_act", "relu2"),
      layerNormEps: fields.positive("layer_norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads, partial: 0.5, isPartialNeeded: true }),
      qkLayernorm: fields.boolean("qk_layernorm", true),
    };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.layerNormEps, true];

    return causalLm(c, { kind: "layer", epsilon, bias }, (net, x) => {
      const h = net.layerNorm(x, "input_layernorm", epsilon, { bias });
      const qkv = net.linear(
        h,
        { "self_attn.query_key_value": 3 * c.hiddenSize },
        { bias, order: shape },
      );
      const names = { q: "self_attn.q_layernorm", k: "self_attn.k_layernorm" };
      const normed = c.qkLayernorm ? net.headNorm(qkv, names, shape, epsilon, { kind: "layer", bias }) : qkv;
      const heads = net.attention(net.rope(normed, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.dense": c.hiddenSize }, { bias }));
      const mlpInput = net.layerNorm(x, "post_attention_layernorm", epsilon, { bias });
      return net.add(x, plainMlp(net, mlpInput, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], c, { bias }));
    }, { names: { norm: "model.final_layernorm" } });
  },
};
