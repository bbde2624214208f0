import type { ModelConfig } from "./config.ts";
import { causalLm } from "./causal_lm.ts";

/** transformers' `modeling_llama.py`, and `modeling_mistral.py`, which has a window and no biases. */
export const llama = (c: ModelConfig) =>
  causalLm(c, (net, x) => {
    const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKeyValueHeads, headDim: c.headDim };
    const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];
    const { hiddenSize: hidden, intermediateSize: inner, rmsNormEps: epsilon } = c;
    const [attention, mlp] = [{ bias: c.attentionBias }, { bias: c.mlpBias }];

    const h = net.rmsNorm(x, "input_layernorm", epsilon);
    const qkv = net.linear(
      h,
      { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys },
      attention,
    );
    const heads = net.attention(net.rope(qkv, shape, c.rope), shape, c.slidingWindow);
    x = net.add(x, net.linear(heads, { "self_attn.o_proj": hidden }, attention));
    const gateUp = net.linear(
      net.rmsNorm(x, "post_attention_layernorm", epsilon),
      { "mlp.gate_proj": inner, "mlp.up_proj": inner },
      mlp,
    );
    return net.add(x, net.linear(net.swiglu(gateUp), { "mlp.down_proj": hidden }, mlp));
  });
