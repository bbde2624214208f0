import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import { type Gemma2Config, gemma2Keys } from "./gemma2.ts";
import { windowsOf } from "./keys.ts";
import { parseRope } from "./rope.ts";

/** transformers' `modeling_vaultgemma.py`: Gemma 2 without the norms after attention and MLP. */
export const vaultgemma: Architecture<Gemma2Config> = {
  modelType: "vaultgemma",
  className: "VaultGemmaForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const keys = gemma2Keys(fields, {
      vocab_size: 256000,
      max_position_embeddings: 8192,
      attn_logit_softcapping: 50,
      final_logit_softcapping: 30,
      layerType: (l) => (l + 1) % 2 > 0 ? "sliding_attention" : "full_attention",
    });
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
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias }));
      return net.add(x, gatedMlp(net, net.rmsNorm(x, "pre_feedforward_layernorm", epsilon, { onePlus }), c));
    }, { embeddingScale: Math.sqrt(c.hiddenSize), logitSoftcap: c.finalLogitSoftcapping });
  },
};
