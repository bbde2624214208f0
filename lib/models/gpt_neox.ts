import type { Value } from "../graph/graph.ts";
import type { Architecture } from "./architecture.ts";
import { attentionShape, plainMlp } from "./blocks.ts";
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

export interface GptNeoxConfig extends PlainConfig {
  layerNormEps: number;
  useParallelResidual: boolean;
  attentionBias: boolean;
}

/**
 * transformers' `modeling_gpt_neox.py` (Pythia, Dolly 2): queries, keys and values of each head lie together, part of
 * each head is rotated, and attention and MLP read the same residual, each through a norm of its own.
 */
export const gptNeox: Architecture<GptNeoxConfig> = {
  modelType: "gpt_neox",
  className: "GPTNeoXForCausalLM",
  baseModelPrefix: "gpt_neox",
  otherNames: { "lm_head.weight": "embed_out.weight" },
  buffers: /attention\.(masked_)?bias$/,

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 50432,
      hidden_size: 6144,
      num_hidden_layers: 44,
      max_position_embeddings: 2048,
    }, { hasPadding: false });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "hidden_dropout"]);
    const heads = dividedHeads(fields, base, { num_attention_heads: 64 });
    return {
      ...base,
      ...heads,
      intermediateSize: intermediateSize(fields, 24576),
      hiddenAct: activation(fields, "hidden_act", "gelu"),
      layerNormEps: fields.positive("layer_norm_eps", 1e-5),
      rope: parseRope(fields, {
        ...base,
        ...heads,
        thetaKey: "rotary_emb_base",
        partial: 0.25,
        partialKey: "rotary_pct",
        isPartialNeeded: true,
      }),
      useParallelResidual: fields.boolean("use_parallel_residual", true),
      attentionBias: fields.boolean("attention_bias", true),
    };
  },

  net(c) {
    const [shape, epsilon] = [attentionShape(c), c.layerNormEps];
    const attention = { bias: c.attentionBias };

    return causalLm(c, { kind: "layer", epsilon, bias: true }, (net, x) => {
      const norm = (x: Value, name: string) => net.layerNorm(x, name, epsilon, { bias: true });
      const qkv = net.linear(
        norm(x, "input_layernorm"),
        { "attention.query_key_value": 3 * c.hiddenSize },
        { ...attention, order: shape },
      );
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      const attended = net.add(x, net.linear(heads, { "attention.dense": c.hiddenSize }, attention));
      const h = norm(c.useParallelResidual ? x : attended, "post_attention_layernorm");
      return net.add(
        attended,
        plainMlp(net, h, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], c, { bias: true }),
      );
    }, {
      names: { embedding: "gpt_neox.embed_in", layers: "gpt_neox.layers", norm: "gpt_neox.final_layer_norm" },
    });
  },
};
