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
  multipleOf,
  noDropout,
  onlyFullAttention,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface LlamaConfig extends ModelConfig, Heads {
  intermediateSize: number;
  hiddenAct: Activation;
  rmsNormEps: number;
  rope: RopeSpec;
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_llama.py`. */
export const llama: Architecture<LlamaConfig> = {
  modelType: "llama",
  className: "LlamaForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
    });
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads", "head_dim"]);
    multipleOf(fields, { ...base, ...heads });
    noDropout(fields, "attention_dropout");
    onlyFullAttention(fields, base);
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 11008),
      hiddenAct: activation(fields, "hidden_act", "silu"),
      rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
      rope: parseRope(fields, { ...base, ...heads }),
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKeyValueHeads, headDim: c.headDim };
    const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];
    const { hiddenSize: hidden, intermediateSize: inner, rmsNormEps: epsilon } = c;
    const [attention, mlp] = [{ bias: c.attentionBias }, { bias: c.mlpBias }];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = net.linear(
        h,
        { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys },
        attention,
      );
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": hidden }, attention));
      const gateUp = net.linear(
        net.rmsNorm(x, "post_attention_layernorm", epsilon),
        { "mlp.gate_proj": inner, "mlp.up_proj": inner },
        mlp,
      );
      return net.add(x, net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.down_proj": hidden }, mlp));
    });
  },
};
