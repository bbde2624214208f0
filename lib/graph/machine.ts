import type { Mask } from "../batch/mask.ts";
import { ATTENTION_TILE, type AttentionShape, type AttentionTiles } from "../../kernels/attention.ts";
import { Attention } from "../gpu/attention_operations.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { ChoiceTensors } from "../gpu/choice_operations.ts";
import { Products } from "../gpu/products.ts";
import { RowCounts, type RowSlot, slotOf } from "../gpu/program.ts";
import { attentionTiles, type ProductTiles, usualTiles } from "../gpu/tuning.ts";
import { type ParameterSpec, shapeOf } from "../parameters/parameter.ts";
import type { Parameters } from "../parameters/parameters.ts";
import { storageOfWeights } from "../parameters/layout.ts";

/** The largest batch that a run will meet: what the plan is made for. */
export interface Capacity {
  /** Of a packed row. */
  tokens: number;
  /** Labels in it. */
  labels: number;
  /** Pairs in it. */
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

/** The widths of a model that do not belong to one op. */
export interface Widths {
  hidden: number;
  /** Of its longest norm or bias. */
  vector: number;
  /** Floats of a row's statistics of the final norm. */
  statistics: number;
  vocabulary: number;
  /** Floats of a row of each rotary table. */
  rotary: readonly number[];
  /** How many windows its layers' attention has. */
  windows: number;
  /** The embedding's table, where it stays in the machine's memory. */
  hostTable?: ParameterSpec;
  /** Of a stage of a pipeline: at which ends it has a boundary. */
  boundaries: { received: boolean; sent: boolean };
}

/** How kernels are chosen. */
export interface MachineOptions {
  /** WGSL of the loss; see `kernels/preference_loss.wgsl`. */
  loss: string;
  /** The token that ends a response; without it no probability of it is known. */
  eosTokenId?: number;
  /** Whether there is a backward pass. */
  training: boolean;
  /**
   * How matrix products are computed; by default as suits a GPU.
   *
   * @internal
   */
  tiles?: ProductTiles;
  /**
   * How attention is computed; by default likewise.
   *
   * @internal
   */
  attention?: AttentionTiles;
  /**
   * Instead of labels' log-probabilities the forward pass has the tokens that come next, and keys and values go
   * through caches.
   *
   * @internal
   */
  generation?: GenerationTensors;
}

/** What generation has beside a batch: see `lib/generation/pass.ts`. */
export interface GenerationTensors extends ChoiceTensors {
  /** The cache of keys and values of an attention of that name, [rows, width]. */
  cache(name: string, width: number): Tensor;
  /** How many rows a cache has. */
  keyRows: RowSlot;
}

/**
 * What the ops of one plan make their calls with: parameters, ways of computing, and the tensors that a batch fills.
 */
export class Machine {
  readonly products: Products;
  readonly batch: BatchTensors;
  readonly head: HeadTensors;
  /** What a stage of a pipeline begins with, [tokens, hidden]; after the backward pass its gradient. */
  readonly received?: Tensor;
  /** What it ends with; before the backward pass its gradient is put there. */
  readonly sent?: Tensor;
  readonly #attention = new Map<string, Attention>();
  readonly #factors = new Map<ParameterSpec, Tensor>();

  constructor(
    readonly plan: MemoryPlan,
    readonly parameters: Parameters,
    readonly capacity: Capacity,
    readonly widths: Widths,
    readonly options: MachineOptions,
  ) {
    this.batch = batchTensors(plan, capacity, widths);
    this.head = headTensors(plan, capacity, widths, this.batch);
    const boundary = (name: string) =>
      plan.tensor(`batch.${name}`, "batch", [capacity.tokens, widths.hidden]);
    if (widths.boundaries.received) this.received = boundary("received");
    if (widths.boundaries.sent) this.sent = boundary("sent");
    this.products = new Products(plan, options.tiles ?? usualTiles("gpu"));
  }

  /** Row counts of the batch's tokens, as most ops need them. */
  get rows(): RowSlot {
    return this.batch.tokenRows;
  }

  get generation(): GenerationTensors | undefined {
    return this.options.generation;
  }

  /** Attention of one shape of heads. */
  attention(shape: AttentionShape): Attention {
    const { plan, capacity, options } = this;
    const { heads, keyValueHeads, headDim, scale, softcap } = shape;
    const key = [heads, keyValueHeads, headDim, scale, softcap].join(" ");
    const known = this.#attention.get(key);
    if (known) return known;
    const tiles = options.attention ?? attentionTiles("gpu");
    const isApart = options.generation !== undefined;
    const made = new Attention(plan, shape, capacity.tokens, tiles, options.training, isApart);
    this.#attention.set(key, made);
    return made;
  }

  /**
   * The factors of a matrix that has magnitudes (see `doraNorm`): the forward pass makes them, and the backward pass
   * reads them too.
   */
  factors(weight: ParameterSpec): Tensor {
    const known = this.#factors.get(weight);
    if (known) return known;
    const made = this.plan.shared(`${weight.name} factors`, "activations", [shapeOf(weight)[0], 2]);
    this.#factors.set(weight, made);
    return made;
  }

  /** A tensor that lives from the first call that binds it to the last. */
  shared(
    name: string,
    purpose: "activations" | "scratch",
    width: number,
    storage: "f32" | "bf16" = "f32",
  ): Tensor {
    const { tokens } = this.capacity;
    return this.plan.shared(name, purpose, width === 1 ? [tokens] : [tokens, width], storage);
  }
}

/** What a batch is uploaded to, and what its pairs' results are read from. */
export interface BatchTensors {
  uploaded: Record<
    | "ids"
    | "labelRows"
    | "targets"
    | "labelsOfRow"
    | "labelsOfPair"
    | "references"
    | "distinctIds"
    | "distinctStarts"
    | "distinctRows",
    Tensor
  >;
  /** Which keys a token sees, for each of the model's windows; the position of a token stands in every one. */
  masks: Record<keyof Mask, Tensor>[];
  /** A table for each of the model's rotations. */
  cosSin: Tensor[]; // [positions, dimensions]
  /** The rows of a table in the machine's memory that a batch looks up, each once; `ids` count them then. */
  embedded?: { table: ParameterSpec; rows: Tensor };
  results: Tensor; // [P, 4]
  /** Of chosen and of rejected. */
  responseFigures: Tensor; // [2 P, 4]
  /** Partial sums of a norm's weight gradient or a bias's, one at a time, [rows / 32, the longest]. */
  columnPartial: Tensor;
  /** Run-time row counts; `pieces` are those of the logits. */
  rowCounts: RowCounts;
  rows: Tensor;
  tokenRows: RowSlot;
  labelSlot: RowSlot;
  pairSlot: RowSlot;
  distinctSlot: RowSlot;
  pieces: RowSlot[];
  /** Rows of one piece of logits. */
  pieceRows: number;
}

/**
 * What the head works with: the rows that predict a label, and logits in pieces. L labels, padded to whole pieces but
 * for the statistics.
 */
export interface HeadTensors {
  gathered: Tensor; // [L, hidden]
  gatheredStatistics: Tensor; // [L], or [L, 2] of LayerNorm
  gatheredNormed: Tensor; // [L, hidden]
  gradientGatheredNormed: Tensor;
  gradientGathered: Tensor;
  logits: Tensor; // [rows of a piece, padded vocabulary]
  labelLse: Tensor; // [L]
  logps: Tensor; // [L]
  labelFigures: Tensor; // [L, 4]
  labelWeights: Tensor; // [L]
}

/** Kernels read logits four at a time. */
const paddedVocabulary = (vocabulary: number) => Math.ceil(vocabulary / 4) * 4;

/** Rows of one piece of logits: a multiple of 64, so that a piece's part of every tensor starts on an aligned byte. */
function pieceRowsOf(capacity: Capacity, vocabulary: number): number {
  const rows = Math.floor(capacity.logitsBytes / (paddedVocabulary(vocabulary) * 4) / 64) * 64;
  return Math.min(Math.max(rows, 64), Math.ceil(capacity.labels / 64) * 64);
}

function batchTensors(plan: MemoryPlan, capacity: Capacity, widths: Widths): BatchTensors {
  const { tokens, labels, pairs } = capacity;
  const { windows } = widths;
  const tiles = Math.ceil(tokens / ATTENTION_TILE);
  const pieceRows = pieceRowsOf(capacity, widths.vocabulary);
  const pieceCount = Math.ceil(labels / pieceRows);
  const rowCounts = new RowCounts(4 + pieceCount);
  const rows = plan.tensor("row counts", "batch", [rowCounts.bytes / 4]);
  // Uniforms, where every other slab is storage: UNIFORM, COPY_DST.
  Object.assign(rows.slab, { usage: 0x40 | 0x08 });
  const slot = (index: number): RowSlot => ({ slot: index, tensor: slotOf(rows, index) });
  const batch = (name: string, ...shape: number[]) => plan.tensor(`batch.${name}`, "batch", shape);

  return {
    uploaded: {
      ids: batch("ids", tokens),
      labelRows: batch("label rows", labels),
      targets: batch("targets", pieceCount * pieceRows),
      labelsOfRow: batch("labels of row", tokens, 2),
      labelsOfPair: batch("labels of pair", pairs, 4),
      references: batch("references of pair", pairs, 4),
      distinctIds: batch("distinct ids", tokens),
      distinctStarts: batch("distinct starts", tokens + 1),
      distinctRows: batch("distinct rows", tokens),
    },
    // Without attention there are positions all the same.
    masks: Array.from({ length: Math.max(1, windows) }, () => ({
      spans: batch("spans", tokens, 4),
      queryTiles: batch("query tiles", tiles, 4),
      keyTiles: batch("key tiles", tiles, 4),
    })),
    cosSin: widths.rotary.map((width) => plan.tensor("rotary table", "batch", [capacity.positions, width])),
    ...(widths.hostTable && { embedded: embeddedRows(plan, widths.hostTable, tokens) }),
    results: plan.tensor("results", "batch", [pairs, 4]),
    responseFigures: plan.tensor("response figures", "batch", [2 * pairs, 4]),
    columnPartial: plan.shared("column sums", "scratch", [
      Math.ceil(Math.max(tokens, labels) / 32),
      widths.vector,
    ]),
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

const embeddedRows = (plan: MemoryPlan, table: ParameterSpec, tokens: number) => ({
  table,
  rows: plan.tensor("batch.embedding rows", "batch", [tokens, table.columns], storageOfWeights(table)),
});

function headTensors(
  plan: MemoryPlan,
  { labels }: Capacity,
  { hidden, vocabulary, statistics }: Widths,
  { pieces, pieceRows }: BatchTensors,
): HeadTensors {
  const padded = pieces.length * pieceRows;
  const scratch = (name: string, ...shape: number[]) => plan.shared(name, "scratch", shape);
  return {
    gathered: scratch("gathered", padded, hidden),
    gatheredStatistics: scratch("gathered statistics", labels, statistics),
    gatheredNormed: scratch("gathered normed", padded, hidden),
    gradientGatheredNormed: scratch("gradient of gathered normed", padded, hidden),
    gradientGathered: scratch("gradient of gathered", padded, hidden),
    logits: plan.shared("logits", "logits", [pieceRows, paddedVocabulary(vocabulary)]),
    labelLse: scratch("label lse", padded),
    logps: scratch("logps", padded),
    labelFigures: scratch("label figures", padded, 4),
    labelWeights: scratch("label weights", padded),
  };
}
