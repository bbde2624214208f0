import type { Architecture } from "./architecture.ts";
import { attentionShape } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import {
  activation,
  decoderKeys,
  type GatedConfig,
  headKeys,
  intermediateSize,
  multipleOf,
  noDropout,
  onlyDividedHeads,
} from "./keys.ts";
import { parseRope } from "./rope.ts";

/**
 * EXAONE 3.5 and EXAONE Deep. transformers has no class for them: this is `modeling_exaone.py` of their checkpoints
 * (huggingface.co/LGAI-EXAONE), which computes what Llama does, under other names.
 */
export const exaone: Architecture<GatedConfig> = {
  modelType: "exaone",
  className: "ExaoneForCausalLM",
  baseModelPrefix: "transformer",
  isOwnCode: true,

  config(fields) {
    const base = decoderKeys(
      fields,
      {
        vocab_size: 102400,
        hidden_size: 2048,
        num_hidden_layers: 32,
        max_position_embeddings: 2048,
        tie_word_embeddings: true,
      },
      // The other name is only another way to the same attribute, and is set last.
      {
        num_hidden_layers: fields.value("num_hidden_layers") === undefined
          ? "num_layers"
          : "num_hidden_layers",
      },
    );
    const heads = headKeys(fields, base, { num_attention_heads: 32 }, ["num_key_value_heads", "head_dim"]);
    multipleOf(fields, { ...base, ...heads });
    onlyDividedHeads(fields, base.hiddenSize / heads.numAttentionHeads);
    noDropout(fields, ["attention_dropout", "embed_dropout"]);
    return {
      ...base,
      ...heads,
      // Python's `or`: 0 and null are none too.
      intermediateSize: fields.value("intermediate_size")
        ? intermediateSize(fields, NaN)
        : 4 * base.hiddenSize,
      hiddenAct: activation(fields, "activation_function", "silu"),
      rmsNormEps: fields.positive("layer_norm_epsilon", 1e-5),
      rope: parseRope(fields, { ...base, ...heads }),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];
    const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];

    return causalLm(c, { kind: "rms", epsilon }, (net, x) => {
      const qkv = net.linear(net.rmsNorm(x, "ln_1", epsilon), {
        "attn.attention.q_proj": queries,
        "attn.attention.k_proj": keys,
        "attn.attention.v_proj": keys,
      });
      const heads = net.attention(net.rope(qkv, shape, rope), shape);
      x = net.add(x, net.linear(heads, { "attn.attention.out_proj": c.hiddenSize }));
      const gateUp = net.linear(net.rmsNorm(x, "ln_2", epsilon), {
        "mlp.c_fc_0": c.intermediateSize,
        "mlp.c_fc_1": c.intermediateSize,
      });
      return net.add(x, net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.c_proj": c.hiddenSize }));
    }, { names: { embedding: "transformer.wte", layers: "transformer.h", norm: "transformer.ln_f" } });
  },
};
