/** Parts of a layer that many models have alike, under the names that most give their weights. */
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Value } from "../graph/graph.ts";
import type { Net } from "../graph/net.ts";
import type { GatedConfig, Heads } from "./keys.ts";

export const attentionShape = ({ numAttentionHeads, numKeyValueHeads, headDim }: Heads): AttentionShape => ({
  heads: numAttentionHeads,
  keyValueHeads: numKeyValueHeads,
  headDim,
});

/** [queries, keys, values] of three matrices, all with a bias or none. */
export function qkvProjection(net: Net, x: Value, shape: AttentionShape, options?: { bias: boolean }): Value {
  const [queries, keys] = [shape.heads * shape.headDim, shape.keyValueHeads * shape.headDim];
  return net.linear(
    x,
    { "self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys },
    options,
  );
}

/** down(act(up(x))), both with a bias or none. */
export function plainMlp(
  net: Net,
  x: Value,
  [up, down]: readonly [up: string, down: string],
  c: Pick<GatedConfig, "hiddenSize" | "intermediateSize" | "hiddenAct">,
  options?: { bias: boolean },
): Value {
  const activated = net.activation(net.linear(x, { [up]: c.intermediateSize }, options), c.hiddenAct);
  return net.linear(activated, { [down]: c.hiddenSize }, options);
}

/** down(act(gate(x)) * up(x)), all with a bias or none; times `scale`. */
export function gatedMlp(
  net: Net,
  x: Value,
  c: Pick<GatedConfig, "hiddenSize" | "intermediateSize" | "hiddenAct">,
  { bias, scale }: { bias?: boolean; scale?: number } = {},
): Value {
  const gateUp = net.linear(
    x,
    { "mlp.gate_proj": c.intermediateSize, "mlp.up_proj": c.intermediateSize },
    { bias },
  );
  return net.linear(net.glu(gateUp, c.hiddenAct), { "mlp.down_proj": c.hiddenSize }, { bias, scale });
}
