import type { AttentionShape } from "../../../kernels/attention.ts";
import { headsOf } from "../../gpu/attention_family.ts";
import { keepKeys } from "../../gpu/attention_operations.ts";
import type { OpParts, Value } from "../graph.ts";

/**
 * output = softmax(Q K^T scale) V, head by head, over the keys that each token's spans let it see, where the scores
 * may have a soft cap (see `AttentionShape`); `lse` is the logarithm of the softmax's sums.
 *
 * @param mask the index of its window among the model's.
 */
export const attention = (
  output: Value,
  lse: Value,
  qkv: Value,
  shape: AttentionShape,
  mask: number,
): OpParts => ({
  inputs: [qkv],
  parameters: [],
  inBackward: "kept",
  flops: ({ visible }) => 4 * shape.heads * shape.headDim * visible[mask],
  forward({ machine, of, into }) {
    const { generation, rows } = machine;
    const at = { mask, ...machine.batch.masks[mask], ...headsOf(of(qkv), shape) };
    const made = { out: into(output), lse: into(lse) };
    if (!generation) return machine.attention(shape).forward(rows, { ...at, ...made });
    const keys = { tensor: generation.cache(output.name, 2 * shape.keyValueHeads * shape.headDim), first: 0 };
    return [
      keepKeys(rows, at.spans, at.keys, keys.tensor),
      ...machine.attention(shape).forward(rows, { ...at, keys, keyRows: generation.keyRows, ...made }),
    ];
  },
  backward(dOutput, pass) {
    const { machine } = pass;
    const at = { ...headsOf(pass.value(qkv), shape), out: pass.value(output), lse: pass.extra(lse) };
    const delta = pass.scratch("delta", shape.heads);
    pass.newGradient(qkv, (dQkv) =>
      machine.attention(shape).backward(machine.rows, {
        mask,
        ...machine.batch.masks[mask],
        ...at,
        dOut: dOutput,
        delta,
        dQueries: dQkv,
        dKeys: dQkv,
      }));
  },
});
