import type { MemoryPlan, Tensor } from "../gpu/memory.ts";
import { RowCounts, type RowSlot, slotOf } from "../gpu/program.ts";
import type { ModelConfig } from "./config.ts";
import { ATTENTION_TILE } from "../../kernels/attention.ts";

/** The largest batch that a run will meet: what the plan is made for. */
export interface Capacity {
  tokens: number;
  labels: number;
  pairs: number;
  /** One more than the largest position. */
  positions: number;
  /** Bytes that one piece of logits may take. */
  logitsBytes: number;
  /** Recompute each layer in the backward pass instead of keeping its activations. */
  checkpointing: boolean;
  /** What is kept for the backward pass is rounded to bfloat16; by default it stays float32. */
  keptStorage?: "f32" | "bf16";
}

/** What the forward pass of one layer makes. T tokens, D = headDim. */
export interface LayerForward {
  inputNormed: Tensor; // [T, hidden]
  inputRstd: Tensor; // [T]
  /** After the rotation; [T, (heads + 2 kvHeads) D]. */
  qkv: Tensor;
  attention: Tensor; // [T, heads D]
  lse: Tensor; // [T, heads]
  /** Residual stream between attention and MLP, [T, hidden]. */
  middle: Tensor;
  middleNormed: Tensor; // [T, hidden]
  middleRstd: Tensor; // [T]
  gateUp: Tensor; // [T, 2 intermediate]
  activated: Tensor; // [T, intermediate]
}

/** What its backward pass makes. */
export interface LayerBackward {
  activated: Tensor; // as in the forward pass, and before that its gradient
  middleNormed: Tensor;
  gradientMiddleNormed: Tensor;
  gradientAttention: Tensor;
  delta: Tensor; // [T, heads]
  gradientQkv: Tensor;
  inputNormed: Tensor;
  gradientInputNormed: Tensor;
}

/** What the backward pass reads of a layer: the values that are made anew there, from `input` on, need not be kept. */
export interface LayerKept extends LayerForward {
  input: Tensor;
}

/** The large values of `LayerKept`. */
export const LARGE = ["input", "qkv", "attention", "middle", "gateUp"] as const;

/** The tensors of one layer. */
export interface LayerActivations {
  /** Residual stream at the layer's input, [T, hidden]. */
  input: Tensor;
  forward: LayerForward;
  /** The tensors of the forward pass, or others that the backward pass fills first, by `packed` or `recomputes`. */
  kept: LayerKept;
  /** Where large values wait, rounded to bfloat16. */
  packed: Partial<Record<(typeof LARGE)[number], Tensor>>;
  /** Whether the backward pass runs the layer's forward pass again. */
  recomputes: boolean;
  backward: LayerBackward;
}

/**
 * Batch, activations and scratch of a decoder: every tensor between the parameters and the loss. Each value has a tensor
 * of its own; those that never live at the same time are placed over each other by the plan.
 */
export interface Activations {
  batch: Record<
    | "ids"
    | "spans"
    | "queryTiles"
    | "keyTiles"
    | "labelRows"
    | "targets"
    | "labelsOfRow"
    | "labelsOfPair"
    | "distinctIds"
    | "distinctStarts"
    | "distinctRows",
    Tensor
  >;
  cosSin: Tensor; // [positions, D]
  layers: LayerActivations[];
  /** Residual stream after the last layer, [T, hidden]. */
  output: Tensor;
  gradient: Tensor; // residual stream's, in place from layer to layer, [T, hidden]
  normPartial: Tensor; // [T / 32, hidden]
  /** The head works on the rows that predict a label, [L, hidden], and on logits in pieces, [rows, padded vocabulary]. */
  gathered: Tensor;
  gatheredRstd: Tensor;
  gatheredNormed: Tensor;
  gradientGatheredNormed: Tensor;
  gradientGathered: Tensor;
  logits: Tensor;
  labelLse: Tensor; // [L]
  logps: Tensor; // [L]
  labelWeights: Tensor; // [L]
  results: Tensor; // [P, 4]
  /** Run-time row counts; `pieces` are those of the logits. */
  rowCounts: RowCounts;
  rows: Tensor;
  tokenRows: RowSlot;
  /** The same rows, for a product that adds to what an earlier one of the same pass left. */
  tokenRowsAdding: RowSlot;
  labelSlot: RowSlot;
  pairSlot: RowSlot;
  distinctSlot: RowSlot;
  pieces: RowSlot[];
  piecesAdding: RowSlot[];
  pieceRows: number;
}

/** Rows of one piece of logits: a multiple of 64, so that a piece's part of every tensor starts on an aligned byte. */
function pieceRowsOf(capacity: Capacity, paddedVocabulary: number): number {
  const rows = Math.floor(capacity.logitsBytes / (paddedVocabulary * 4) / 64) * 64;
  return Math.min(Math.max(rows, 64), Math.ceil(capacity.labels / 64) * 64);
}

/** Plans every tensor of forward and backward; nothing is allocated yet. */
export function planActivations(plan: MemoryPlan, config: ModelConfig, capacity: Capacity): Activations {
  const { hiddenSize: hidden, intermediateSize, numAttentionHeads: heads, headDim } = config;
  const { tokens, labels, pairs } = capacity;
  const qkvWidth = (heads + 2 * config.numKeyValueHeads) * headDim;
  const paddedVocabulary = Math.ceil(config.vocabSize / 4) * 4;
  const tiles = Math.ceil(tokens / ATTENTION_TILE);
  const pieceRows = pieceRowsOf(capacity, paddedVocabulary);
  const pieceCount = Math.ceil(labels / pieceRows);

  const batch = (name: string, ...shape: number[]) => plan.tensor(`batch.${name}`, "batch", shape);
  const kept = (name: string, ...shape: number[]) => plan.shared(name, "activations", shape);
  const scratch = (name: string, ...shape: number[]) => plan.shared(name, "scratch", shape);

  const layerForward = (of: string, keeps: boolean): LayerForward => {
    const maybeKept = keeps ? kept : scratch;
    return {
      inputNormed: scratch(`${of} input normed`, tokens, hidden),
      inputRstd: maybeKept(`${of} input rstd`, tokens),
      qkv: maybeKept(`${of} qkv`, tokens, qkvWidth),
      attention: maybeKept(`${of} attention`, tokens, heads * headDim),
      lse: maybeKept(`${of} lse`, tokens, heads),
      middle: maybeKept(`${of} middle`, tokens, hidden),
      middleNormed: scratch(`${of} middle normed`, tokens, hidden),
      middleRstd: maybeKept(`${of} middle rstd`, tokens),
      gateUp: maybeKept(`${of} gate up`, tokens, 2 * intermediateSize),
      activated: scratch(`${of} activated`, tokens, intermediateSize),
    };
  };
  const layers = Array.from({ length: config.numHiddenLayers }, (_, l): LayerActivations => {
    const name = `layer ${l}`;
    // The backward pass begins with the last layer: what that has made is still there.
    const isLast = l + 1 === config.numHiddenLayers;
    const recomputes = capacity.checkpointing && !isLast;
    const packs = capacity.keptStorage === "bf16" && !isLast;
    const input = (packs ? scratch : kept)(`${name} input`, tokens, hidden);
    const forward = layerForward(name, !recomputes && !packs);
    const again = recomputes || packs ? layerForward(`${name} again`, false) : forward;
    const waiting = !packs ? [] : recomputes ? (["input"] as const) : LARGE;
    const keptValues = {
      ...again,
      input: packs ? scratch(`${name} input again`, tokens, hidden) : input,
      // What is too small to be packed, and not made again, stays.
      ...(packs && !recomputes && { lse: forward.lse }),
    };
    const packed = waiting.map((value) =>
      [
        value,
        plan.shared(`${name} packed ${value}`, "activations", keptValues[value].shape, "bf16"),
      ] as const
    );
    const of = `${name} backward`;
    return {
      input,
      forward,
      kept: keptValues,
      packed: Object.fromEntries(packed),
      recomputes,
      backward: {
        activated: scratch(`${of} activated`, tokens, intermediateSize),
        middleNormed: scratch(`${of} middle normed`, tokens, hidden),
        gradientMiddleNormed: scratch(`${of} gradient of middle normed`, tokens, hidden),
        gradientAttention: scratch(`${of} gradient of attention`, tokens, heads * headDim),
        delta: scratch(`${of} delta`, tokens, heads),
        gradientQkv: scratch(`${of} gradient of qkv`, tokens, qkvWidth),
        inputNormed: scratch(`${of} input normed`, tokens, hidden),
        gradientInputNormed: scratch(`${of} gradient of input normed`, tokens, hidden),
      },
    };
  });

  const rowCounts = new RowCounts(5 + 2 * pieceCount);
  const rows = plan.tensor("row counts", "batch", [rowCounts.bytes / 4]);
  // Uniforms, where every other slab is storage: UNIFORM, COPY_DST.
  Object.assign(rows.slab, { usage: 0x40 | 0x08 });
  const slot = (index: number): RowSlot => ({ slot: index, tensor: slotOf(rows, index) });

  return {
    batch: {
      ids: batch("ids", tokens),
      spans: batch("spans", tokens, 4),
      queryTiles: batch("query tiles", tiles, 4),
      keyTiles: batch("key tiles", tiles, 4),
      labelRows: batch("label rows", labels),
      targets: batch("targets", pieceCount * pieceRows),
      labelsOfRow: batch("labels of row", tokens, 2),
      labelsOfPair: batch("labels of pair", pairs, 4),
      distinctIds: batch("distinct ids", tokens),
      distinctStarts: batch("distinct starts", tokens + 1),
      distinctRows: batch("distinct rows", tokens),
    },
    cosSin: plan.tensor("rotary table", "batch", [capacity.positions, headDim]),
    layers,
    output: kept("output", tokens, hidden),
    gradient: scratch("gradient", tokens, hidden),
    normPartial: scratch("norm partial", Math.ceil(Math.max(tokens, labels) / 32), hidden),
    gathered: scratch("gathered", pieceCount * pieceRows, hidden),
    gatheredRstd: scratch("gathered rstd", labels),
    gatheredNormed: scratch("gathered normed", pieceCount * pieceRows, hidden),
    gradientGatheredNormed: scratch("gradient of gathered normed", pieceCount * pieceRows, hidden),
    gradientGathered: scratch("gradient of gathered", pieceCount * pieceRows, hidden),
    logits: plan.shared("logits", "logits", [pieceRows, paddedVocabulary]),
    labelLse: scratch("label lse", pieceCount * pieceRows),
    logps: scratch("logps", pieceCount * pieceRows),
    labelWeights: scratch("label weights", pieceCount * pieceRows),
    results: plan.tensor("results", "batch", [pairs, 4]),
    rowCounts,
    rows,
    tokenRows: slot(0),
    tokenRowsAdding: slot(1),
    labelSlot: slot(2),
    pairSlot: slot(3),
    distinctSlot: slot(4),
    pieces: Array.from({ length: pieceCount }, (_, i) => slot(5 + i)),
    piecesAdding: Array.from({ length: pieceCount }, (_, i) => slot(5 + pieceCount + i)),
    pieceRows,
  };
}
