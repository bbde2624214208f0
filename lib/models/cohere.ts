import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import type { Fields } from "./fields.ts";
import {
  activation,
  decoderKeys,
  type GatedConfig,
  headKeys,
  intermediateSize,
  noDropout,
  onlyFullAttention,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

/** What both of Cohere's classes have. */
export interface CohereBase extends Omit<GatedConfig, "rmsNormEps"> {
  layerNormEps: number;
  attentionBias: boolean;
  /** Of logits. */
  logitScale: number;
}

export interface CohereConfig extends CohereBase {
  useQkNorm: boolean;
}

/**
 * transformers' `modeling_cohere.py` (Command R): attention and MLP of the same normed input, LayerNorm without bias,
 * a rotation that takes pairs of neighbours, and scaled logits.
 */
export const cohere: Architecture<CohereConfig> = {
  modelType: "cohere",
  className: "CohereForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const useQkNorm = fields.orNull("use_qk_norm", false, () => fields.boolean("use_qk_norm")) ?? false;
    const keys = cohereKeys(fields, 500_000);
    onlyFullAttention(fields, keys);
    return { ...keys, useQkNorm };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.layerNormEps, c.attentionBias];
    const norms = { q: "self_attn.q_norm", k: "self_attn.k_norm" };

    return causalLm(c, { kind: "layer", epsilon }, (net, x) => {
      const h = net.layerNorm(x, "input_layernorm", epsilon);
      const qkv = qkvProjection(net, h, shape, { bias });
      const normed = c.useQkNorm
        ? net.headNorm(qkv, norms, shape, epsilon, { kind: "layer", weights: "each" })
        : qkv;
      const heads = net.attention(net.rope(normed, shape, c.rope), shape);
      const attended = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(attended, gatedMlp(net, h, c));
    }, { logitScale: c.logitScale });
  },
};

/** @param theta the class's default. */
export function cohereKeys(fields: Fields, theta: number): CohereBase {
  const base = decoderKeys(fields, {
    vocab_size: 256000,
    hidden_size: 8192,
    num_hidden_layers: 40,
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    pad_token_id: 0,
  });
  const heads = headKeys(fields, base, { num_attention_heads: 64 }, ["num_key_value_heads"]);
  noDropout(fields, ["attention_dropout"]);
  return {
    ...base,
    ...heads,
    intermediateSize: intermediateSize(fields, 22528),
    hiddenAct: activation(fields, "hidden_act", "silu"),
    layerNormEps: fields.positive("layer_norm_eps", 1e-5),
    rope: parseRope(fields, { ...base, ...heads, theta, interleaved: true }),
    attentionBias: fields.boolean("attention_bias"),
    logitScale: fields.positive("logit_scale", 0.0625),
  };
}
