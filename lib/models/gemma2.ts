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
  type LayerType,
  layerTypes,
  multipleOf,
  noDropout,
  onlyCausal,
  type Windows,
  windowsOf,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface Gemma2Config extends GatedConfig, Windows {
  attentionBias: boolean;
  /** Scores are divided by its root. */
  queryPreAttnScalar: number;
  /** Scores and logits become cap * tanh(it / cap). */
  attnLogitSoftcapping?: number;
  finalLogitSoftcapping?: number;
}

/**
 * transformers' `modeling_gemma2.py`: Gemma with norms before attention and MLP and after them, caps on scores and
 * logits, and a window in every other layer.
 */
export const gemma2: Architecture<Gemma2Config> = {
  modelType: "gemma2",
  className: "Gemma2ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const keys = gemma2Keys(fields, {
      vocab_size: 256000,
      max_position_embeddings: 8192,
      attn_logit_softcapping: 50,
      final_logit_softcapping: 30,
      layerType: (l) => (l + 1) % 2 > 0 ? "sliding_attention" : "full_attention",
    });
    onlyCausal(fields);
    return { ...keys, rope: parseRope(fields, keys) };
  },

  net(c) {
    const [shape, windows, bias] = [attentionShape(c), windowsOf(c), c.attentionBias];
    const [epsilon, onePlus] = [c.rmsNormEps, true];
    const [scale, softcap] = [c.queryPreAttnScalar ** -0.5, c.attnLogitSoftcapping];

    return causalLm(c, { kind: "rms", epsilon, onePlus }, (net, x, l) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon, { onePlus });
      const qkv = net.rope(qkvProjection(net, h, shape, { bias }), shape, c.rope);
      const heads = net.attention(qkv, shape, { window: windows[l], scale, softcap });
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias });
      x = net.add(x, net.rmsNorm(attended, "post_attention_layernorm", epsilon, { onePlus }));
      const mlp = gatedMlp(net, net.rmsNorm(x, "pre_feedforward_layernorm", epsilon, { onePlus }), c);
      return net.add(x, net.rmsNorm(mlp, "post_feedforward_layernorm", epsilon, { onePlus }));
    }, { embeddingScale: Math.sqrt(c.hiddenSize), logitSoftcap: c.finalLogitSoftcapping });
  },
};

/** The keys of Gemma 2 and those after it, but for rotary embedding. */
export function gemma2Keys(
  fields: Fields,
  usual: {
    vocab_size: number;
    max_position_embeddings: number;
    attn_logit_softcapping?: number;
    final_logit_softcapping?: number;
    layerType: (layer: number) => LayerType;
  },
): Omit<Gemma2Config, "rope"> {
  const base = decoderKeys(fields, {
    vocab_size: usual.vocab_size,
    hidden_size: 2304,
    num_hidden_layers: 26,
    max_position_embeddings: usual.max_position_embeddings,
    tie_word_embeddings: true,
    pad_token_id: 0,
  });
  const heads = headKeys(fields, base, { num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256 });
  multipleOf(fields, { ...base, ...heads });
  noDropout(fields, ["attention_dropout"]);
  // The class makes a mask for it whether a layer has one or not: null is refused.
  const window = fields.count("sliding_window", 2 ** 31, 4096);
  const cap = (key: "attn_logit_softcapping" | "final_logit_softcapping") =>
    fields.orNull(key, usual[key], () => fields.positive(key));
  return {
    ...base,
    ...heads,
    intermediateSize: intermediateSize(fields, 9216),
    hiddenAct: activation(fields, "hidden_activation", "gelu_pytorch_tanh"),
    rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
    attentionBias: fields.boolean("attention_bias"),
    queryPreAttnScalar: fields.count("query_pre_attn_scalar", 2 ** 31, 256),
    attnLogitSoftcapping: cap("attn_logit_softcapping"),
    finalLogitSoftcapping: cap("final_logit_softcapping"),
    slidingWindow: window,
    layerTypes: layerTypes(fields, base, window, usual.layerType),
  };
}
