import { show } from "../text/json.ts";
import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  type GatedConfig,
  headKeys,
  intermediateSize,
  noDropout,
  onlyCausal,
  onlyFullAttention,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface GemmaConfig extends GatedConfig {
  attentionBias: boolean;
}

/** transformers' `modeling_gemma.py`: Llama with scaled embeddings and norms whose factor is 1 + weight. */
export const gemma: Architecture<GemmaConfig> = {
  modelType: "gemma",
  className: "GemmaForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 256000,
      hidden_size: 3072,
      num_hidden_layers: 28,
      max_position_embeddings: 8192,
      tie_word_embeddings: true,
      pad_token_id: 0,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 16, num_key_value_heads: 16, head_dim: 256 });
    noDropout(fields, ["attention_dropout"]);
    onlyCausal(fields);
    onlyFullAttention(fields, base);
    const hiddenAct = activation(fields, "hidden_act", "gelu_pytorch_tanh");
    // The first checkpoints say "gelu" here, and transformers 4 took the other key, or tanh without it.
    const other = fields.value("hidden_activation") ?? "gelu_pytorch_tanh";
    if (hiddenAct !== other) {
      fields.warn(
        `hidden_act: ${show(hiddenAct)} counts, as in transformers 5; transformers 4 takes ${show(other)}`,
      );
    }
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 24576),
      hiddenAct,
      rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
      rope: parseRope(fields, { ...base, ...heads }),
      attentionBias: fields.boolean("attention_bias"),
    };
  },

  net(c) {
    const [shape, rope, bias] = [attentionShape(c), c.rope, c.attentionBias];
    const [epsilon, onePlus] = [c.rmsNormEps, true];

    return causalLm(c, { kind: "rms", epsilon, onePlus }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon, { onePlus });
      const heads = net.attention(net.rope(qkvProjection(net, h, shape, { bias }), shape, rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "post_attention_layernorm", epsilon, { onePlus }), c));
    }, { embeddingScale: Math.sqrt(c.hiddenSize) });
  },
};
