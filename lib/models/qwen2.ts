import type { ModelConfig } from "./config.ts";
import { causalLm, windowOf } from "./causal_lm.ts";

/** transformers' `modeling_qwen2.py`: queries, keys and values have biases, and some layers a window. */
export const qwen2 = (c: ModelConfig) =>
  causalLm(c, (net, x, l) => {
    const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKeyValueHeads, headDim: c.headDim };
    const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];
    const { hiddenSize: hidden, intermediateSize: inner, rmsNormEps: epsilon } = c;

    const h = net.rmsNorm(x, "input_layernorm", epsilon);
    const qkv = net.linear(
      h,
      { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys },
      { bias: true },
    );
    const heads = net.attention(net.rope(qkv, shape, c.rope), shape, windowOf(c, l));
    x = net.add(x, net.linear(heads, { "self_attn.o_proj": hidden }));
    const gateUp = net.linear(net.rmsNorm(x, "post_attention_layernorm", epsilon), {
      "mlp.gate_proj": inner,
      "mlp.up_proj": inner,
    });
    return net.add(x, net.linear(net.swiglu(gateUp), { "mlp.down_proj": hidden }));
  });
