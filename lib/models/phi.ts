import type { Architecture } from "./architecture.ts";
import { attentionShape, plainMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  headKeys,
  intermediateSize,
  noDropout,
  onlyDividedHeads,
  onlyFullAttention,
  type PlainConfig,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface PhiConfig extends PlainConfig {
  layerNormEps: number;
  qkLayernorm: boolean;
}

/**
 * transformers' `modeling_phi.py` (Phi-1, Phi-1.5, Phi-2): attention and MLP read the residual through the same norm,
 * part of each head is rotated, and every product has a bias, the head too.
 */
export const phi: Architecture<PhiConfig> = {
  modelType: "phi",
  className: "PhiForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 51200,
      hidden_size: 2048,
      num_hidden_layers: 24,
      max_position_embeddings: 2048,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "embd_pdrop", "resid_pdrop"]);
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads"]);

    if (fields.boolean("qk_layernorm")) onlyDividedHeads(fields, base.hiddenSize / heads.numAttentionHeads);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 8192),
      hiddenAct: activation(fields, "hidden_act", "gelu_new"),
      layerNormEps: fields.positive("layer_norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads, partial: 0.5, isPartialNeeded: true }),
      qkLayernorm: fields.boolean("qk_layernorm"),
    };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.layerNormEps, true];

    return causalLm(
      c,
      { kind: "layer", epsilon, bias },
      (net, x) => {
        const h = net.layerNorm(x, "input_layernorm", epsilon, { bias });
        const qkv = qkvProjection(net, h, shape, { bias });
        const names = { q: "self_attn.q_layernorm", k: "self_attn.k_layernorm" };
        const normed = c.qkLayernorm
          ? net.headNorm(qkv, names, shape, epsilon, { kind: "layer", bias })
          : qkv;
        const heads = net.attention(net.rope(normed, shape, c.rope), shape);
        const attended = net.add(x, net.linear(heads, { "self_attn.dense": c.hiddenSize }, { bias }));
        return net.add(attended, plainMlp(net, h, ["mlp.fc1", "mlp.fc2"], c, { bias }));
      },
      { names: { norm: "model.final_layernorm" }, headBias: true },
    );
  },
};
