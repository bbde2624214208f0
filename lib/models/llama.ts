import { Net } from "../graph/net.ts";
import type { ModelConfig } from "../model/config.ts";

/** Llama and Mistral, as transformers' `modeling_llama.py`. */
export function llama(c: ModelConfig): Net {
  const net = new Net();
  const shape = { heads: c.numAttentionHeads, keyValueHeads: c.numKeyValueHeads, headDim: c.headDim };
  const [queries, keys] = [shape.heads * c.headDim, shape.keyValueHeads * c.headDim];
  const { hiddenSize: hidden, intermediateSize: inner, rmsNormEps: epsilon } = c;

  let x = net.embedding("model.embed_tokens", c.vocabSize, hidden, c.padTokenId);
  for (let l = 0; l < c.numHiddenLayers; l++) {
    x = net.layer(`model.layers.${l}`, x, (x) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = net.linear(h, {
        "self_attn.q_proj": queries,
        "self_attn.k_proj": keys,
        "self_attn.v_proj": keys,
      });
      const heads = net.attention(net.rope(qkv, shape), shape, c.slidingWindow);
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": hidden }));
      const gateUp = net.linear(net.rmsNorm(x, "post_attention_layernorm", epsilon), {
        "mlp.gate_proj": inner,
        "mlp.up_proj": inner,
      });
      return net.add(x, net.linear(net.swiglu(gateUp), { "mlp.down_proj": hidden }));
    });
  }
  net.labels(x, "model.norm", epsilon, {
    name: c.tieWordEmbeddings ? "model.embed_tokens" : "lm_head",
    rows: c.vocabSize,
  });
  return net;
}
