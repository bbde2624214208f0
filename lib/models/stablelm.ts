import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
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

export interface StablelmConfig extends PlainConfig {
  layerNormEps: number;
  useQkvBias: boolean;
  qkLayernorm: boolean;
  useParallelResidual: boolean;
}

/**
 * transformers' `modeling_stablelm.py`: LayerNorm, a gated MLP, part of each head rotated; in some, a norm for each
 * head, and attention and MLP read the residual through the same norm.
 */
export const stablelm: Architecture<StablelmConfig> = {
  modelType: "stablelm",
  className: "StableLmForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 50304,
      hidden_size: 2560,
      num_hidden_layers: 32,
      max_position_embeddings: 4096,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "hidden_dropout"]);
    const heads = dividedHeads(
      fields,
      base,
      { num_attention_heads: 32 },
      () => fields.count("num_key_value_heads", 2 ** 16, 32),
    );
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 6912),
      hiddenAct: activation(fields, "hidden_act", "silu"),
      layerNormEps: fields.positive("layer_norm_eps", 1e-5),
      rope: parseRope(fields, { ...base, ...heads, partial: 0.25, isPartialNeeded: true }),
      useQkvBias: fields.boolean("use_qkv_bias"),
      qkLayernorm: fields.boolean("qk_layernorm"),
      useParallelResidual: fields.boolean("use_parallel_residual"),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.layerNormEps];

    return causalLm(c, { kind: "layer", epsilon, bias: true }, (net, x) => {
      const h = net.layerNorm(x, "input_layernorm", epsilon, { bias: true });
      const qkv = qkvProjection(net, h, shape, { bias: c.useQkvBias });
      const names = { q: "self_attn.q_layernorm.norms", k: "self_attn.k_layernorm.norms" };
      const normed = c.qkLayernorm
        ? net.headNorm(qkv, names, shape, epsilon, { kind: "layer", weights: "list" })
        : qkv;
      const heads = net.attention(net.rope(normed, shape, c.rope), shape);
      const attended = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      const mlpInput = c.useParallelResidual
        ? h
        : net.layerNorm(attended, "post_attention_layernorm", epsilon, { bias: true });
      return net.add(attended, gatedMlp(net, mlpInput, c));
    });
  },
};
