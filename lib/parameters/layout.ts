/** Where the parameters of a model lie on the GPU: cut so that each piece can be bound, in as few slabs as possible. */
import { bytesOf as storageBytes, type StorageType } from "../../kernels/storage.ts";
import { UserError } from "../errors.ts";
import { elementBytes, type Tensor } from "../gpu/memory.ts";
import { formatBytes } from "../format_bytes.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { NORM_BLOCK } from "../gpu/optimizer_operations.ts";
import { type ParameterSpec, shapeOf } from "../graph/parameter.ts";

/** What AdamW keeps of each parameter, in slabs of the same layout. */
export const KINDS = ["weights", "gradients", "first", "second"] as const;
export type ParameterKind = (typeof KINDS)[number];

/**
 * A parameter on the GPU or, where that is larger than a binding may be, some of its rows. Without training there are only
 * weights, and the other tensors are these.
 */
export interface Parameter extends Record<ParameterKind, Tensor> {
  spec: ParameterSpec;
  /** The rows of the parameter that are here. */
  firstRow: number;
  rows: number;
  /** In blocks of `NORM_BLOCK` vec4s, over all chunks. */
  firstBlock: number;
  blocks: number;
}

/** Parameters that one dispatch can update: as much as can be bound. With early updates, `gradients` is of no use. */
export interface ParameterChunk extends Record<ParameterKind, Tensor> {
  /** Floats, the gaps between parameters included. */
  elements: number;
  /** The first floats of the chunk are matrices, which weight decay applies to; norms follow. */
  decayedElements: number;
  firstBlock: number;
}

/** What is kept of each parameter. */
export interface ParameterOptions {
  /** Gradients and moments too. */
  training: boolean;
  /** Gradients live only from their first kernel to the parameter's update, and share memory with activations. */
  earlyUpdates?: boolean;
  /**
   * How matrices are stored that are not trained, those with rows of a multiple of 4; others and norms are float32. As
   * float32 unless it says otherwise.
   */
  weights?: StorageType;
  /** How AdamW's moments are stored; as float32 unless it says otherwise. */
  moments?: Partial<Record<"first" | "second", StorageType>>;
}

/** Parameters start at multiples of this many elements, so that a block of the gradient norm is of one parameter. */
const BLOCK_ELEMENTS = NORM_BLOCK * 4;
/** Rows of a piece are a multiple of this, so that the columns of a product that they give start on an aligned byte. */
const ROW_STEP = 64;

const PURPOSES = { weights: "weights", gradients: "gradients", first: "moments", second: "moments" } as const;

/** A range of a chunk. */
interface Place extends Pick<Parameter, "spec" | "firstRow" | "rows"> {
  firstElement: number;
  elements: number;
}

/**
 * Places parameters in slabs of at most `largestBuffer` bytes, matrices before norms.
 * @throws {UserError} where a few rows of a matrix are larger than `largestBuffer` bytes.
 */
export function placeParameters(
  plan: MemoryPlan,
  specs: readonly ParameterSpec[],
  largestBuffer: number,
  { training, earlyUpdates = false, moments = {}, weights = "f32" }: ParameterOptions,
): { list: Parameter[]; chunks: ParameterChunk[]; blocks: number } {
  const kinds: readonly ParameterKind[] = !training
    ? ["weights"]
    : KINDS.filter((kind) => kind !== "gradients" || !earlyUpdates);
  if (training && weights !== "f32") throw new RangeError("trained weights are float32");
  /** A chunk's parameters are stored alike. */
  const isPacked = (spec: ParameterSpec) =>
    weights !== "f32" && spec.kind === "matrix" && spec.columns % 4 === 0;
  const rank = (spec: ParameterSpec) => spec.kind !== "matrix" ? 2 : isPacked(spec) ? 0 : 1;
  const groups: Place[][] = [];
  let used = Infinity;
  for (const spec of specs.toSorted((a, b) => rank(a) - rank(b))) {
    const bytes = storageBytes(isPacked(spec) ? weights : "f32");
    const most = Math.floor(largestBuffer / bytes / BLOCK_ELEMENTS) * BLOCK_ELEMENTS;
    for (const piece of cut(spec, most, bytes)) {
      const elements = paddedElements(piece.rows * spec.columns);
      const last = groups.at(-1);
      if (!last || used + elements > most || isPacked(last[0].spec) !== isPacked(spec)) {
        groups.push([]);
        used = 0;
      }
      groups.at(-1)!.push({ spec, ...piece, firstElement: used, elements });
      used += elements;
    }
  }

  const list: Parameter[] = [];
  const chunks: ParameterChunk[] = [];
  let block = 0;
  for (const [index, group] of groups.entries()) {
    const storage: Partial<Record<ParameterKind, StorageType>> = {
      ...moments,
      weights: isPacked(group[0].spec) ? weights : "f32",
    };
    const sum = (places: Place[]) => places.reduce((total, { elements }) => total + elements, 0);
    const slabs = new Map(
      kinds.map((kind) =>
        [kind, plan.tensor(`${kind} ${index}`, PURPOSES[kind], [sum(group)], storage[kind])] as const
      ),
    );
    const each = (of: (whole: Tensor) => Tensor) =>
      Object.fromEntries(KINDS.map((kind) => [kind, of(slabs.get(kind) ?? slabs.get("weights")!)])) as Record<
        ParameterKind,
        Tensor
      >;
    chunks.push({
      ...each((whole) => whole),
      elements: sum(group),
      decayedElements: sum(group.filter(({ spec }) => spec.kind === "matrix")),
      firstBlock: block,
    });
    for (const { spec, firstRow, rows, firstElement, elements } of group) {
      const blocks = elements / BLOCK_ELEMENTS;
      const part = (whole: Tensor): Tensor => ({
        ...whole,
        name: spec.name,
        shape: [rows, spec.columns],
        offset: firstElement * elementBytes(whole),
        bytes: elements * elementBytes(whole),
      });
      const parameter = { spec, firstRow, rows, ...each(part), firstBlock: block, blocks };
      if (training && earlyUpdates) {
        parameter.gradients = plan.shared(`gradient of ${spec.name}`, "gradients", [rows, spec.columns]);
      }
      list.push(parameter);
      block += blocks;
    }
  }
  return { list, chunks, blocks: block };
}

/** The rows of a parameter in pieces of at most `most` elements, all but the last of the same size. */
function cut(spec: ParameterSpec, most: number, bytes: number): { firstRow: number; rows: number }[] {
  const [rows, columns] = shapeOf(spec);
  if (paddedElements(rows * columns) <= most) return [{ firstRow: 0, rows }];
  const mostRows = Math.floor(most / columns / ROW_STEP) * ROW_STEP;
  if (mostRows === 0) {
    throw new UserError(
      `${ROW_STEP} rows of ${spec.name} take ${
        formatBytes(bytes * ROW_STEP * columns)
      }, more than a buffer of this adapter, ${formatBytes(bytes * most)}: this model cannot be trained here`,
    );
  }
  const count = Math.ceil(rows / mostRows);
  const each = Math.ceil(rows / count / ROW_STEP) * ROW_STEP;
  return Array.from({ length: Math.ceil(rows / each) }, (_, i) => ({
    firstRow: i * each,
    rows: Math.min(each, rows - i * each),
  }));
}

const paddedElements = (elements: number) => Math.ceil(elements / BLOCK_ELEMENTS) * BLOCK_ELEMENTS;
