/** Where the parameters of a model lie on the GPU: cut so that each piece can be bound, in as few slabs as possible. */
import { bytesOf as storageBytes, type StorageType } from "../../kernels/storage.ts";
import { UserError } from "../errors.ts";
import { elementBytes, type Tensor } from "../gpu/memory.ts";
import { formatBytes } from "../text/format_bytes.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { MOMENT_BLOCK, NORM_BLOCK } from "../gpu/optimizer_operations.ts";
import type { MomentKind } from "../optimizers/rule.ts";
import { isTrained, type ParameterSpec, shapeOf } from "./parameter.ts";
import { quantizationOf, ROW_STEP, wordsOf } from "./quantized_matrix.ts";

/** What is kept of each parameter, in slabs of the same layout. */
export type ParameterKind = "weights" | "gradients" | MomentKind;

/** A parameter on the GPU or, where that is larger than a binding may be, some of its rows. */
export interface Parameter {
  spec: ParameterSpec;
  /** The rows of the parameter that are here. */
  firstRow: number;
  rows: number;
  weights: Tensor;
}

/** What is kept of what is trained: moments where this rank has them. */
interface State extends Partial<Record<MomentKind, Tensor>> {
  weights: Tensor;
  /** The rank that has its moments, and updates it. */
  owner: number;
  /** Where moments are bytes: the largest magnitudes of each `MOMENT_BLOCK`, of the whole slab, [blocks, moments]. */
  absmax?: Tensor;
  /** The first of them. */
  firstScale: number;
}

/** One that is trained. */
export interface TrainedParameter extends Parameter, State {
  /** What the backward pass leaves. */
  gradients: Tensor;
  /** Where their sum over the ranks comes to lie, where that is kept here. */
  sums?: Tensor;
  /** In blocks of `NORM_BLOCK` vec4s, over all that are trained. */
  firstBlock: number;
  blocks: number;
}

/** Trained parameters that one dispatch can update: as much as can be bound. */
export interface ParameterChunk extends State {
  /** Gradients, of several ranks their sums, where they are kept here. */
  gradients?: Tensor;
  /** Floats, the gaps between parameters included. */
  elements: number;
  /** The first floats of the chunk are matrices, which weight decay applies to; norms follow. */
  decayedElements: number;
  firstBlock: number;
}

/** What is kept of each parameter. */
export interface ParameterOptions {
  /** Gradients and moments too, of all that are not frozen. */
  training: boolean;
  /**
   * By default `kept` from batch to batch; `passing` ones live only from their first kernel to the last that binds
   * them, and share memory with activations. So do `sent` ones, whose sums over the ranks are kept by the one that has
   * the moments.
   */
  gradients?: "kept" | "passing" | "sent";
  /**
   * How matrices are stored that are not trained, those with rows of a multiple of 4, where they do not say so
   * themselves; others and norms are float32. As float32 unless it says otherwise.
   */
  weights?: StorageType;
  /** How matrices of the model are stored that are trained, by the same rule; adapters are float32. */
  trained?: "f32" | "bf16";
  /** Which moments the optimizer keeps; by default AdamW's two in float32. */
  moments?: MomentStorage;
  /** Which of how many parts of the moments are here; by default all. */
  share?: Share;
}

/** One of several parts of about the same size. */
export interface Share {
  /** Which, from 0. */
  rank: number;
  /** How many there are. */
  size: number;
}

/** How each moment is stored that an optimizer keeps: all of them in bytes, or none. */
export type MomentStorage = Partial<Record<MomentKind, "f32" | "bf16">> | Partial<Record<MomentKind, "8bit">>;

/**
 * Whether it says bytes: then those of matrices are that have rows of a multiple of 4 and are of `LEAST_8BIT` elements
 * or more, in each of their parts; all others are float32.
 */
export const areInBytes = (moments: MomentStorage): moments is Partial<Record<MomentKind, "8bit">> =>
  Object.values(moments).includes("8bit");

const FLOAT32: MomentStorage = { first: "f32", second: "f32" };

/** bitsandbytes' min_8bit_size. */
const LEAST_8BIT = 4096;

/**
 * Where gradients are not kept, trained matrices of more elements than the first are cut into pieces of at most the
 * second: embeddings and heads, whose gradient, of half a gigabyte and more, would be the largest tensor there is. Of
 * others products may have epilogues, which pieces do without.
 */
const PASSING = { most: 2 ** 27, piece: 2 ** 25 };

/**
 * Parameters start at multiples of this many elements, so that a block of the gradient norm, or of moments, is of one
 * parameter.
 */
const BLOCK_ELEMENTS = NORM_BLOCK * 4;

const ALL: Share = { rank: 0, size: 1 };

/** A range of a chunk. */
interface Place extends Pick<Parameter, "spec" | "firstRow" | "rows"> {
  firstElement: number;
  elements: number;
}

/** The parameters of a model, in the order of their places. */
export interface Placed {
  list: Parameter[];
  trained: TrainedParameter[];
  /** None where gradients are passing, and nothing is updated as a whole. */
  chunks: ParameterChunk[];
  /** Of all that are trained. */
  blocks: number;
}

/**
 * Places parameters in slabs of at most `largestBuffer` bytes: trained before others, matrices before norms.
 * @throws {UserError} where a few rows of a matrix are larger than `largestBuffer` bytes.
 */
export function placeParameters(
  plan: MemoryPlan,
  specs: readonly ParameterSpec[],
  largestBuffer: number,
  { training, gradients = "kept", moments = FLOAT32, weights = "f32", trained = "f32", share = ALL }:
    ParameterOptions,
): Placed {
  const hasState = (spec: ParameterSpec) => training && isTrained(spec);
  const isPackable = ({ kind, columns }: ParameterSpec) => kind === "matrix" && columns % 4 === 0;
  const quantized = (spec: ParameterSpec) => hasState(spec) ? undefined : quantizationOf(spec);
  const storageOf = (spec: ParameterSpec): StorageType =>
    !hasState(spec)
      ? storageOfWeights(spec, weights)
      : isPackable(spec) && spec.role === "trained"
      ? trained
      : "f32";
  const isIn8Bits = (spec: ParameterSpec) =>
    areInBytes(moments) && hasState(spec) && isPackable(spec) &&
    spec.parts.every(({ rows }) => rows * spec.columns >= LEAST_8BIT);
  const rank = (spec: ParameterSpec) =>
    (hasState(spec) ? 0 : 8) +
    (spec.kind !== "matrix"
      ? 4
      : (isIn8Bits(spec) || quantized(spec) ? 0 : 2) + (storageOf(spec) !== "f32" ? 0 : 1));
  /** What rows of a parameter take in its slab, in elements of that. */
  const elementsIn = (spec: ParameterSpec, rows: number) => {
    const how = quantized(spec);
    return how ? wordsOf(how, rows * spec.columns) : rows * spec.columns;
  };
  const sorted = specs.filter(({ isOnHost }) => !isOnHost).toSorted((a, b) => rank(a) - rank(b));
  const owners = ownersOf(sorted.filter(hasState), share.size);
  const groups: Place[][] = [];
  let used = Infinity;
  for (const spec of sorted) {
    // Gradients are float32.
    const bytes = hasState(spec) ? 4 : storageBytes(storageOf(spec));
    const most = Math.floor(largestBuffer / bytes / BLOCK_ELEMENTS) * BLOCK_ELEMENTS;
    const isLike = (other: ParameterSpec) =>
      storageOf(other) === storageOf(spec) && hasState(other) === hasState(spec) &&
      isIn8Bits(other) === isIn8Bits(spec) && owners.get(other) === owners.get(spec);
    const [rows, columns] = shapeOf(spec);
    const isCut = hasState(spec) && gradients !== "kept" && rows * columns > PASSING.most;
    const largest = isCut ? Math.min(most, PASSING.piece) : most;
    for (const piece of cut(spec, (rows) => elementsIn(spec, rows), largest, bytes)) {
      const elements = paddedElements(elementsIn(spec, piece.rows));
      const last = groups.at(-1);
      if (!last || used + elements > most || !isLike(last[0].spec)) {
        groups.push([]);
        used = 0;
      }
      groups.at(-1)!.push({ spec, ...piece, firstElement: used, elements });
      used += elements;
    }
  }

  const placed: Placed = { list: [], trained: [], chunks: [], blocks: 0 };
  for (const [index, group] of groups.entries()) {
    const sum = (places: Place[]) => places.reduce((total, { elements }) => total + elements, 0);
    const slab = (kind: "weights" | "gradients", storage: StorageType = "f32") =>
      plan.tensor(`${kind} ${index}`, kind, [sum(group)], storage);
    const part = (whole: Tensor, { spec, rows, firstElement, elements }: Place): Tensor => ({
      ...whole,
      name: spec.name,
      shape: [rows, spec.columns],
      offset: firstElement * elementBytes(whole),
      bytes: elements * elementBytes(whole),
    });
    const weights = slab("weights", storageOf(group[0].spec));
    const parameterAt = (place: Place): Parameter => {
      const { spec, firstRow, rows } = place;
      return { spec, firstRow, rows, weights: { ...part(weights, place), quantized: quantized(spec) } };
    };
    if (!hasState(group[0].spec)) {
      placed.list.push(...group.map(parameterAt));
      continue;
    }
    const owner = owners.get(group[0].spec)!;
    const isOwn = owner === share.rank;
    const sums = gradients === "kept" || (gradients === "sent" && isOwn) ? slab("gradients") : undefined;
    const { absmax, ...own } = isOwn
      ? momentSlabs(plan, moments, isIn8Bits(group[0].spec), index, sum(group))
      : {};
    if (gradients !== "passing") {
      placed.chunks.push({
        ...{ weights, gradients: sums, owner, ...own, absmax, firstScale: 0 },
        elements: sum(group),
        decayedElements: sum(group.filter(({ spec }) => spec.kind === "matrix")),
        firstBlock: placed.blocks,
      });
    }
    for (const place of group) {
      const { spec, rows } = place;
      const blocks = place.elements / BLOCK_ELEMENTS;
      const ownSums = sums && part(sums, place);
      const parameter: TrainedParameter = {
        ...parameterAt(place),
        gradients: ownSums && gradients === "kept"
          ? ownSums
          : plan.shared(`gradient of ${spec.name}`, "gradients", [rows, spec.columns]),
        sums: ownSums,
        owner,
        ...Object.fromEntries(Object.entries(own).map(([kind, slab]) => [kind, part(slab, place)])),
        absmax,
        firstScale: place.firstElement / MOMENT_BLOCK,
        firstBlock: placed.blocks,
        blocks,
      };
      placed.list.push(parameter);
      placed.trained.push(parameter);
      placed.blocks += blocks;
    }
  }
  return placed;
}

/** Who has the moments of each parameter: neighbours, whole, so that every one of `size` has about as many. */
function ownersOf(specs: readonly ParameterSpec[], size: number): Map<ParameterSpec, number> {
  const elementsOf = (spec: ParameterSpec) => {
    const [rows, columns] = shapeOf(spec);
    return rows * columns;
  };
  const total = specs.reduce((sum, spec) => sum + elementsOf(spec), 0);
  let before = 0;
  return new Map(specs.map((spec) => {
    const middle = before + elementsOf(spec) / 2;
    before += elementsOf(spec);
    return [spec, Math.floor(size * middle / total)];
  }));
}

/** The slabs of the moments of so many elements. */
function momentSlabs(
  plan: MemoryPlan,
  moments: MomentStorage,
  isIn8Bits: boolean,
  index: number,
  elements: number,
): Pick<State, MomentKind | "absmax"> {
  const slab = (kind: string, storage: "f32" | "bf16" | "8bit"): Tensor => {
    const name = `${kind} ${index}`;
    if (!isIn8Bits) return plan.tensor(name, "moments", [elements], storage === "8bit" ? "f32" : storage);
    return { ...plan.tensor(name, "moments", [elements / 4]), shape: [elements], isCodes: true };
  };
  const kinds = Object.entries(moments);
  return {
    ...Object.fromEntries(kinds.map(([kind, storage]) => [kind, slab(kind, storage)])),
    ...(isIn8Bits && {
      absmax: plan.tensor(`absmax ${index}`, "moments", [elements / MOMENT_BLOCK, kinds.length]),
    }),
  };
}

/**
 * How the elements of a frozen parameter are stored; the words of a quantized one count as float32, which is as long.
 */
export const storageOfWeights = (spec: ParameterSpec, otherwise: StorageType = "f32"): StorageType =>
  spec.kind !== "matrix" || spec.columns % 4 !== 0 || typeof spec.storage === "object"
    ? "f32"
    : spec.storage ?? otherwise;

/** The rows of a parameter in pieces of at most `most` elements, all but the last of the same size. */
function cut(
  spec: ParameterSpec,
  elementsIn: (rows: number) => number,
  most: number,
  bytes: number,
): { firstRow: number; rows: number }[] {
  const [rows] = shapeOf(spec);
  if (paddedElements(elementsIn(rows)) <= most) return [{ firstRow: 0, rows }];
  const step = elementsIn(ROW_STEP);
  const mostRows = Math.floor(most / step) * ROW_STEP;
  if (mostRows === 0) {
    throw new UserError(
      `${ROW_STEP} rows of ${spec.name} take ${
        formatBytes(bytes * step)
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
