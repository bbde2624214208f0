import type { Architecture } from "./architecture.ts";
import { attentionShape } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  type GatedConfig,
  headKeys,
  intermediateSize,
  noDropout,
  onlyFullAttention,
  slidingWindow,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface Phi3Config extends GatedConfig {
  slidingWindow?: number;
}

/**
 * transformers' `modeling_phi3.py` (Phi-3, Phi-3.5, Phi-4): Llama with fused matrices, LongRoPE and a window in every
 * layer.
 */
export const phi3: Architecture<Phi3Config> = {
  modelType: "phi3",
  className: "Phi3ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32064,
      hidden_size: 3072,
      num_hidden_layers: 32,
      max_position_embeddings: 4096,
      pad_token_id: 32000,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "embd_pdrop", "resid_pdrop"]);
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads"]);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 8192),
      hiddenAct: activation(fields, "hidden_act", "silu"),
      rmsNormEps: fields.positive("rms_norm_eps", 1e-5),
      rope: parseRope(fields, {
        ...base,
        ...heads,
        types: ["default", "longrope"],
        longropeNames: ["su", "yarn"],
        partial: 1,
        isPartialNeeded: true,
        originalMaxPositionEmbeddings: 4096,
      }),
      slidingWindow: slidingWindow(fields, undefined),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.rmsNormEps];
    const qkvRows = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim;

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = net.linear(h, { "self_attn.qkv_proj": qkvRows });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window: c.slidingWindow });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }));
      const gateUp = net.linear(net.rmsNorm(x, "post_attention_layernorm", epsilon), {
        "mlp.gate_up_proj": 2 * c.intermediateSize,
      });
      return net.add(x, net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.down_proj": c.hiddenSize }));
    });
  },
};
