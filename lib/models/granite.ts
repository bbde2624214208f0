import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { decoderKeys, type GatedConfig, gatedKeys, headKeys, noDropout, onlyFullAttention } from "./keys.ts";

export interface GraniteConfig extends GatedConfig {
  attentionBias: boolean;
  mlpBias: boolean;
  embeddingMultiplier: number;
  /** Of scores, in place of 1 / sqrt(head_dim). */
  attentionMultiplier: number;
  /** Of what each half of a layer adds. */
  residualMultiplier: number;
  /** Logits are divided by it. */
  logitsScaling: number;
}

/** transformers' `modeling_granite.py`: Llama with a multiplier at each place. */
export const granite: Architecture<GraniteConfig> = {
  modelType: "granite",
  className: "GraniteForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads"]);
    noDropout(fields, ["attention_dropout"]);
    onlyFullAttention(fields, base);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 11008, rms_norm_eps: 1e-6 }),
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
      embeddingMultiplier: fields.positive("embedding_multiplier", 1),
      attentionMultiplier: fields.positive("attention_multiplier", 1),
      residualMultiplier: fields.positive("residual_multiplier", 1),
      logitsScaling: fields.positive("logits_scaling", 1),
    };
  },

  net(c) {
    const [shape, epsilon, bias] = [attentionShape(c), c.rmsNormEps, c.attentionBias];
    const scale = c.residualMultiplier;

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = net.rope(qkvProjection(net, h, shape, { bias }), shape, c.rope);
      const heads = net.attention(qkv, shape, { scale: c.attentionMultiplier });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias, scale }));
      const normed = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, gatedMlp(net, normed, c, { bias: c.mlpBias, scale }));
    }, { embeddingScale: c.embeddingMultiplier, logitScale: 1 / c.logitsScaling });
  },
};
