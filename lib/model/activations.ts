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
}

/** What one layer keeps from its forward pass for its backward pass. T tokens, D = headDim. */
export interface LayerActivations {
  /** Residual stream at the layer's input, [T, hidden]. */
  input: Tensor;
  inputRstd: Tensor; // [T]
  /** After the rotation; [T, (heads + 2 kvHeads) D]. */
  qkv: Tensor;
  attention: Tensor; // [T, heads D]
  lse: Tensor; // [T, heads]
  /** Residual stream between attention and MLP, [T, hidden]. */
  middle: Tensor;
  middleRstd: Tensor; // [T]
  gateUp: Tensor; // [T, 2 intermediate]
}

/** Batch, activations and scratch of a decoder: every tensor between the parameters and the loss. */
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
  /** Scratch of the layers, reused by each: see `layers.ts`. */
  normed: Tensor; // [T, hidden]
  activated: Tensor; // [T, intermediate]
  gradient: Tensor; // residual stream's, [T, hidden]
  gradientNormed: Tensor; // [T, hidden]
  gradientQkv: Tensor; // as qkv
  gradientAttention: Tensor; // [T, heads D]
  delta: Tensor; // [T, heads]
  normPartial: Tensor; // [T / 32, hidden]
  /** The head works on the rows that predict a label, [L, hidden], and on logits in pieces, [rows, padded vocabulary]. */
  gathered: Tensor;
  gatheredRstd: Tensor;
  gatheredNormed: Tensor;
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
  labelSlot: RowSlot;
  pairSlot: RowSlot;
  distinctSlot: RowSlot;
  pieces: RowSlot[];
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
  const kept = (name: string, ...shape: number[]) => plan.tensor(name, "activations", shape);
  const scratch = (name: string, ...shape: number[]) => plan.tensor(name, "scratch", shape);

  const layerActivations = (l: number, input: Tensor): LayerActivations => ({
    input,
    inputRstd: kept(`layer ${l} input rstd`, tokens),
    qkv: kept(`layer ${l} qkv`, tokens, qkvWidth),
    attention: kept(`layer ${l} attention`, tokens, heads * headDim),
    lse: kept(`layer ${l} lse`, tokens, heads),
    middle: kept(`layer ${l} middle`, tokens, hidden),
    middleRstd: kept(`layer ${l} middle rstd`, tokens),
    gateUp: kept(`layer ${l} gate up`, tokens, 2 * intermediateSize),
  });
  const inputs = Array.from(
    { length: config.numHiddenLayers },
    (_, l) => kept(`layer ${l} input`, tokens, hidden),
  );
  const layers: LayerActivations[] = [];
  for (const [l, input] of inputs.entries()) {
    layers.push(capacity.checkpointing && l > 0 ? { ...layers[0], input } : layerActivations(l, input));
  }

  const rowCounts = new RowCounts(4 + pieceCount);
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
    normed: scratch("normed", tokens, hidden),
    activated: scratch("activated", tokens, intermediateSize),
    gradient: scratch("gradient", tokens, hidden),
    gradientNormed: scratch("gradient of normed", tokens, hidden),
    gradientQkv: scratch("gradient of qkv", tokens, qkvWidth),
    gradientAttention: scratch("gradient of attention", tokens, heads * headDim),
    delta: scratch("delta", tokens, heads),
    normPartial: scratch("norm partial", Math.ceil(Math.max(tokens, labels) / 32), hidden),
    gathered: scratch("gathered", pieceCount * pieceRows, hidden),
    gatheredRstd: scratch("gathered rstd", labels),
    gatheredNormed: scratch("gathered normed", pieceCount * pieceRows, hidden),
    gradientGathered: scratch("gradient of gathered", pieceCount * pieceRows, hidden),
    logits: plan.tensor("logits", "logits", [pieceRows, paddedVocabulary]),
    labelLse: scratch("label lse", pieceCount * pieceRows),
    logps: scratch("logps", pieceCount * pieceRows),
    labelWeights: scratch("label weights", pieceCount * pieceRows),
    results: scratch("results", pairs, 4),
    rowCounts,
    rows,
    tokenRows: slot(0),
    labelSlot: slot(1),
    pairSlot: slot(2),
    distinctSlot: slot(3),
    pieces: Array.from({ length: pieceCount }, (_, i) => slot(4 + i)),
    pieceRows,
  };
}
