/** What kernels do as the mathematics needs it, for profiles: the code that runs them has no use for it. */
import type { Tensor } from "./memory.ts";
import { type KernelCall, SLOT_BYTES } from "./program.ts";

/**
 * Of one dispatch: floating-point operations where arithmetic bounds it; bytes, read and written once each, where
 * memory does.
 */
export interface Work {
  flops?: number;
  bytes?: number;
}

/** What the work of a batch's kernels follows from. */
export interface WorkSize {
  /** Row counts, by slot. */
  counts: Uint32Array;
  /** Query-key pairs that attention looks at, by mask. */
  visible: readonly number[];
  /** Floats of all query heads of a token. */
  attentionWidth: number;
}

type Call = Pick<KernelCall, "label" | "bindings" | "flops" | "mask" | "part">;
/** A kernel without textures: only products have those, and they tell their operations themselves. */
type Kernel = Omit<Call, "bindings"> & { bindings: Tensor[] };

const width = (tensor: Tensor) => tensor.shape.slice(1).reduce((product, n) => product * n, 1);
const last = ({ bindings }: Kernel) => width(bindings.at(-1)!);
const first = ({ bindings }: Kernel) => width(bindings[1]);

/** Its input, its output, and a residual where it adds one. */
const normFloats = (kernel: Kernel) => (kernel.bindings.length > 5 ? 3 : 2) * first(kernel);

/** Floats that a kernel reads and writes for each of the rows that its first binding counts. */
const FLOATS_PER_ROW: Record<string, (kernel: Kernel, size: WorkSize) => number> = {
  embed: (kernel) => 2 * last(kernel),
  embed_backward: (kernel) => 3 * last(kernel),
  gather_rows: (kernel) => 2 * last(kernel),
  gather_rows_backward: (kernel) => 2 * last(kernel),
  rms_norm: normFloats,
  layer_norm: normFloats,
  // x, the gradient of y, and the gradient that theirs is added to.
  rms_norm_backward: (kernel) => 4 * first(kernel),
  layer_norm_backward: (kernel) => 4 * first(kernel),
  rms_norm_weight_backward: (kernel) => 2 * first(kernel),
  layer_norm_weight_backward: (kernel) => 2 * first(kernel),
  column_sums: (kernel) => first(kernel) / 32,
  // Queries and keys of [queries, keys, values].
  rope: (kernel, { attentionWidth }) => last(kernel) + attentionWidth,
  rope_backward: (kernel, { attentionWidth }) => last(kernel) + attentionWidth,
  attention_delta: (_, { attentionWidth }) => 2 * attentionWidth,
  attention_scales: (kernel) => first(kernel),
  attention_head_sums: (kernel, { attentionWidth }) => first(kernel) + last(kernel) - attentionWidth,
  add: (kernel) => 3 * last(kernel),
  add_bias_backward: (kernel) => first(kernel),
  // Queries, keys and values; of the backward pass those and their gradients, read and written.
  head_norm: (kernel) => 2 * first(kernel),
  head_norm_backward: (kernel) => 3 * first(kernel),
  head_norm_weight_backward: (kernel) => 2 * first(kernel),
  glu: (kernel) => 3 * last(kernel),
  glu_backward: (kernel) => 6 * last(kernel),
  activation: (kernel) => 2 * last(kernel),
  activation_backward: (kernel) => 4 * last(kernel),
  log_probabilities: (kernel) => first(kernel),
  logits_backward: (kernel) => 2 * first(kernel),
};

/**
 * Products over the visible query-key pairs; the two backward kernels both compute the scores and their gradient, but
 * where one keeps them for the other.
 */
const ATTENTION_PRODUCTS: Record<string, number> = {
  attention: 2,
  attention_query_gradient: 3,
  attention_key_gradient: 4,
  attention_kept_key_gradient: 2,
};

const totalBytes = (tensors: Tensor[]) => tensors.reduce((sum, { bytes }) => sum + bytes, 0);

/** Behind what is small, the gradient is read; weights and moments are read and written. */
const updateBytes = ([, , , gradients, ...state]: Tensor[]) => gradients.bytes + 2 * totalBytes(state);

/** Bytes of the kernels that work on whole parameters. */
const BYTES: Record<string, (bindings: Tensor[]) => number> = {
  clear: (bindings) => bindings.at(-1)!.bytes,
  // Of an operand whose rows are counted, all that there may be.
  gemm_largest: (bindings) => bindings[2].bytes,
  gemm_parts: (bindings) => bindings[2].bytes + bindings[3].bytes,
  sum_squares: (bindings) => bindings.at(-2)!.bytes,
  adamw: updateBytes,
  adamw_8bit: updateBytes,
  lion: updateBytes,
  lion_8bit: updateBytes,
};

/** The work of a dispatch; nothing for kernels that neither bounds, such as the loss of a few pairs. */
export function workOf(call: Call, size: WorkSize): Work {
  if (call.flops) return { flops: call.flops(size.counts) };
  const kernel = call as Kernel;
  const { label, bindings } = kernel;
  if (label in ATTENTION_PRODUCTS) {
    const { mask = 0, part = 1 } = call;
    return { flops: 2 * ATTENTION_PRODUCTS[label] * size.visible[mask] * size.attentionWidth * part };
  }
  if (label in BYTES) return { bytes: BYTES[label](bindings) };
  if (label in FLOATS_PER_ROW) {
    return { bytes: 4 * size.counts[bindings[0].offset / SLOT_BYTES] * FLOATS_PER_ROW[label](kernel, size) };
  }
  return {};
}
