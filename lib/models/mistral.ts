import type { Activation } from "../../kernels/activation.ts";
import type { RopeSpec } from "../graph/rope_table.ts";
import type { Architecture, ModelConfig } from "./architecture.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  headKeys,
  type Heads,
  intermediateSize,
  noDropout,
  noLayerTypes,
  slidingWindow,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface MistralConfig extends ModelConfig, Heads {
  intermediateSize: number;
  hiddenAct: Activation;
  rmsNormEps: number;
  rope: RopeSpec;
  /** A token sees this many tokens back, itself included, in every layer; absent: all of them. */
  slidingWindow?: number;
}

/** transformers' `modeling_mistral.py`: Llama with a window, without biases. */
export const mistral: Architecture<MistralConfig> = {
  modelType: "mistral",
  className: "MistralForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 4096 * 32,
    });
    noDropout(fields, "attention_dropout");
    // With them transformers takes another class, Ministral's.
    noLayerTypes(fields);
    const heads = headKeys(fields, base, { num_attention_heads: 32, num_key_value_heads: 8 }, ["head_dim"]);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 14336),
      hiddenAct: activation(fields, "hidden_act", "silu"),
      rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
      rope: parseRope(fields, { ...base, ...heads }),
      slidingWindow: slidingWindow(fields, 4096),
    };
  },

  net(c) {
    const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKeyValueHeads, headDim: c.headDim };
    const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];
    const { hiddenSize: hidden, intermediateSize: inner, rmsNormEps: epsilon, slidingWindow: window } = c;

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = net.linear(h, {
        "self_attn.q_proj": queries,
        "self_attn.k_proj": keys,
        "self_attn.v_proj": keys,
      });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape, { window });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": hidden }));
      const gateUp = net.linear(net.rmsNorm(x, "post_attention_layernorm", epsilon), {
        "mlp.gate_proj": inner,
        "mlp.up_proj": inner,
      });
      return net.add(x, net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.down_proj": hidden }));
    });
  },
};
