import type { AttentionShape } from "../../../kernels/attention.ts";
import type { Value } from "../graph.ts";
import type { Machine } from "../machine.ts";
import type { OpParts } from "../net.ts";

/**
 * output = softmax(Q K^T / sqrt(D)) V, head by head, over the keys that each token's spans let it see; `lse` is the logarithm of
 * the softmax's sums.
 */
export const attention = (output: Value, lse: Value, qkv: Value, shape: AttentionShape): OpParts => ({
  inputs: [qkv],
  parameters: [],
  inBackward: "kept",
  forward: ({ machine, of, into }) =>
    machine.attention(shape).forward(machine.rows, {
      ...maskOf(machine),
      qkv: of(qkv),
      out: into(output),
      lse: into(lse),
    }),
  backward(dOutput, pass) {
    const { machine } = pass;
    const at = { qkv: pass.value(qkv), out: pass.value(output), lse: pass.extra(lse) };
    const delta = pass.scratch("delta", shape.heads);
    pass.newGradient(qkv, (dQkv) =>
      machine.attention(shape).backward(machine.rows, {
        ...maskOf(machine),
        ...at,
        dOut: dOutput,
        delta,
        dQkv,
      }));
  },
});

/** Which keys each query sees: intervals for each token, and their bounds for each tile. */
const maskOf = ({ batch: { uploaded: { spans, queryTiles, keyTiles } } }: Machine) => ({
  spans,
  queryTiles,
  keyTiles,
});
