import type { Activation } from "../../kernels/activation.ts";
import type { Value } from "../graph/graph.ts";
import type { RopeSpec } from "../graph/rope_table.ts";
import { show } from "../text/json.ts";
import type { Architecture, ModelConfig } from "./architecture.ts";
import { plainMlp } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import type { Fields } from "./fields.ts";
import { activation, decoderKeys, dividedHeads, noDropout, onlyFullAttention } from "./keys.ts";
import { parseRope } from "./rope.ts";

export interface FalconConfig extends ModelConfig {
  numAttentionHeads: number;
  /** Of keys and values. */
  numKvHeads: number;
  headDim: number;
  ffnHiddenSize: number;
  activation: Activation;
  layerNormEpsilon: number;
  rope: RopeSpec;
  bias: boolean;
  /** The norms before attention and MLP: one each on the same residual, one for both, or one after the other. */
  norms: "two" | "one" | "serial";
}

/**
 * transformers' `modeling_falcon.py`: fused queries, keys and values group by group, and attention and MLP on the
 * same residual, but in the oldest models.
 */
export const falcon: Architecture<FalconConfig> = {
  modelType: "falcon",
  className: "FalconForCausalLM",
  baseModelPrefix: "transformer",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 65024,
      hidden_size: 4544,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
      tie_word_embeddings: true,
    }, {
      hidden_size: (fields.value("n_embed") ?? null) === null ? "hidden_size" : "n_embed",
      hasPadding: false,
    });
    onlyFullAttention(fields, base);
    noDropout(fields, ["attention_dropout", "hidden_dropout"]);
    const isTrue = (key: string, absent: boolean) =>
      fields.orNull(key, absent, () => fields.boolean(key)) ?? false;
    if (isTrue("alibi", false)) fields.problem("alibi: true is not supported; supported: false");
    if (fields.value("head_dim") !== undefined) {
      fields.problem("head_dim: the class divides hidden_size among the heads: remove it");
    }
    const isNew = isTrue("new_decoder_architecture", false);
    const isMultiQuery = isTrue("multi_query", true);
    const heads = dividedHeads(fields, base, { num_attention_heads: 71 }, (heads) => {
      const groups = (fields.value("num_kv_heads") ?? null) === null
        ? heads
        : fields.count("num_kv_heads", 2 ** 16);
      if (isNew) return groups;
      if (!isMultiQuery && groups < heads) {
        const multiQuery = `multi_query: ${show(fields.value("multi_query"))}`;
        fields.problem(
          fields.value("num_attention_heads") === undefined
            ? `num_attention_heads: expected as many as num_kv_heads ${groups} with ${multiQuery}, found ` +
              `none, which is ${heads}`
            : `num_kv_heads: ${groups} is not supported with ${multiQuery}; supported: ${heads}`,
        );
      }
      return isMultiQuery ? 1 : heads;
    });
    return {
      ...base,
      numAttentionHeads: heads.numAttentionHeads,
      numKvHeads: heads.numKeyValueHeads,
      headDim: heads.headDim,
      ffnHiddenSize: (fields.value("ffn_hidden_size") ?? null) === null
        ? 4 * base.hiddenSize
        : fields.count("ffn_hidden_size", 2 ** 22),
      activation: activation(fields, "activation", "gelu"),
      layerNormEpsilon: fields.positive("layer_norm_epsilon", 1e-5),
      rope: parseRope(fields, { ...base, ...heads }),
      bias: isTrue("bias", false),
      norms: normsOf(fields, isNew, isTrue("parallel_attn", true)),
    };
  },

  net(c) {
    const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKvHeads, headDim: c.headDim };
    const { layerNormEpsilon: epsilon, bias } = c;
    const rows = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim;
    const mlp = { hiddenSize: c.hiddenSize, intermediateSize: c.ffnHiddenSize, hiddenAct: c.activation };

    return causalLm(c, { kind: "layer", epsilon, bias: true }, (net, x) => {
      const norm = (x: Value, name: string) => net.layerNorm(x, name, epsilon, { bias: true });
      const h = norm(x, c.norms === "two" ? "ln_attn" : "input_layernorm");
      const qkv = net.linear(h, { "self_attention.query_key_value": rows }, { bias, order: shape });
      const heads = net.attention(net.rope(qkv, shape, c.rope), shape);
      const attended = net.add(x, net.linear(heads, { "self_attention.dense": c.hiddenSize }, { bias }));
      const mlpInput = {
        two: () => norm(x, "ln_mlp"),
        one: () => h,
        serial: () => norm(attended, "post_attention_layernorm"),
      }[c.norms]();
      return net.add(
        attended,
        plainMlp(net, mlpInput, ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], mlp, { bias }),
      );
    }, {
      names: { embedding: "transformer.word_embeddings", layers: "transformer.h", norm: "transformer.ln_f" },
    });
  },
};

/** Which norms there are; the class cannot compute with other keys. */
function normsOf(fields: Fields, isNew: boolean, isParallel: boolean): FalconConfig["norms"] {
  const key = "num_ln_in_parallel_attn";
  const count = fields.value(key) ?? (isNew ? 2 : 1);
  const refuse = (found: unknown, where: string, supported: string) =>
    fields.problem(`${key}: ${show(found)} is not supported with ${where}; supported: ${supported}, or none`);
  if (isNew && !isParallel) {
    fields.problem(
      "parallel_attn: false is not supported with new_decoder_architecture: true; supported: true",
    );
  } else if (isNew && count !== 1 && count !== 2) refuse(count, "new_decoder_architecture: true", "1 or 2");
  else if (!isNew && isParallel && count === 2) refuse(count, "new_decoder_architecture: false", "1");
  if (!isParallel) return "serial";
  return isNew && count === 2 ? "two" : "one";
}
