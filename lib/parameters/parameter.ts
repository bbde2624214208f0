import type { AttentionShape } from "../../kernels/attention.ts";
import type { QuantizationOptions } from "../../kernels/quantized.ts";
import type { StorageType } from "../../kernels/storage.ts";

/** A tensor of the checkpoint, by its Hugging Face name, as rows of a fused parameter. */
export interface ParameterPart {
  name: string;
  rows: number;
  /** How its rows lie in the checkpoint, where that is not how kernels see them. */
  order?: HeadOrder;
  /** Its shape in the checkpoint, where that is not what the parameter's kind says. */
  shape?: number[];
  /** What all of it is in a new model; of a matrix and a bias not needed. */
  initial?: number;
}

/**
 * Fused queries, keys and values, group by group: the query heads that share a key head, that key head, its values;
 * `headDim` rows a head. Kernels see all queries, then all keys, then all values.
 */
export type HeadOrder = AttentionShape;

/** The rows of a part as kernels see them, in runs that lie one after the other in the checkpoint. */
export function rowRuns({ rows, order }: ParameterPart): { first: number; rows: number }[] {
  if (!order) return [{ first: 0, rows }];
  const { heads, keyValueHeads: groups, headDim } = order;
  const queries = heads / groups * headDim;
  return Array.from({ length: groups }, (_, group) => [
    { first: group * queries, rows: queries },
    { first: (heads + group) * headDim, rows: headDim },
    { first: (heads + groups + group) * headDim, rows: headDim },
  ]).flat();
}

/**
 * What training does with a parameter: `trained` and `adapter` ones have a gradient and moments, `frozen` ones are
 * weights alone, which stay as they are.
 */
export type Role = "trained" | "frozen" | "adapter";

/**
 * One matrix that kernels read. Matrices that are applied to the same input lie under each other (query, key and value;
 * gate and up), so that one product serves them all.
 */
export interface ParameterSpec {
  name: string;
  parts: ParameterPart[];
  columns: number;
  /**
   * A norm's weight or bias is one row, [columns] in the checkpoint; a product's bias one column, [rows] in each
   * part, 0 in a new model. Weight decay passes over both: transformers' Trainer leaves out nn.LayerNorm and names
   * with "bias", "layernorm", "rmsnorm", "norm" or "_norm", which are those of every norm of the architectures here.
   */
  kind: "matrix" | "norm" | "bias";
  /** Set before passes are made of the graph. */
  role: Role;
  /** How a matrix is stored that is frozen and has rows of a multiple of 4; set as `role` is. */
  storage?: StorageType | QuantizationOptions;
  /**
   * Of a frozen embedding that is no head: its rows stay in the machine's memory, and a batch brings those that it
   * looks up.
   */
  isOnHost?: true;
  /** Of an embedding: the row that begins at 0, and that looking it up does not train. */
  padTokenId?: number;
  /** Of a linear layer's matrix: what is added to it. */
  adapter?: Adapter;
}

/**
 * Low-rank adapters (LoRA, arXiv 2106.09685) of the modules that a matrix is made of, or of some: of each, y += scale
 * B A dropout(x). With a magnitude (DoRA, arXiv 2402.09353) each row of W + scale B A is then brought to that length.
 */
export interface Adapter {
  /** The first factors, of `rank` rows each, under each other. */
  a: ParameterSpec;
  /** The second factors, under each other: the rows of the modules, `rank` columns. */
  b: ParameterSpec;
  /** A length for each row of the modules. */
  magnitude?: ParameterSpec;
  rank: number;
  scale: number;
  /** The share of x's elements that are left out in training. */
  dropout: number;
  /** Of each module: its first row in the matrix, and how many it has. */
  modules: { firstRow: number; rows: number }[];
  /** How many modules of the model have adapters before these: what is left out of each follows from its place. */
  firstPlace: number;
}

/** The parameters of an adapter. */
export const partsOfAdapter = ({ a, b, magnitude }: Adapter): ParameterSpec[] =>
  magnitude ? [a, b, magnitude] : [a, b];

export const isTrained = ({ role }: ParameterSpec): boolean => role !== "frozen";

/** Rows and columns of a parameter. */
export const shapeOf = (spec: ParameterSpec): [rows: number, columns: number] => [
  spec.parts.reduce((sum, part) => sum + part.rows, 0),
  spec.columns,
];

/** The shape of a checkpoint tensor. */
export const shapeOfPart = ({ kind, columns }: ParameterSpec, { rows, shape }: ParameterPart): number[] =>
  shape ?? (kind === "norm" ? [columns] : kind === "bias" ? [rows] : [rows, columns]);

/** The checkpoint tensors of parameters by name, with their shapes. */
export const partsOf = (parameters: readonly ParameterSpec[]): Map<string, number[]> =>
  new Map(
    parameters.flatMap((parameter) =>
      parameter.parts.map((part) => [part.name, shapeOfPart(parameter, part)] as const)
    ),
  );

/** How many numbers a model has to learn. */
export const parameterCount = (parameters: readonly ParameterSpec[]): number =>
  parameters.reduce((sum, spec) => {
    const [rows, columns] = shapeOf(spec);
    return sum + rows * columns;
  }, 0);

/** One name for several: `self_attn.{q,k,v}_proj.weight`. */
export function commonName(names: readonly string[]): string {
  const [first] = names;
  if (names.length === 1) return first;
  const same = (at: (name: string) => string) => names.every((name) => at(name) === at(first));
  let before = 0;
  while (same((name) => name.slice(0, before + 1))) before++;
  let after = 0;
  while (same((name) => name.slice(name.length - after - 1))) after++;
  const middle = names.map((name) => name.slice(before, name.length - after));
  return `${first.slice(0, before)}{${middle}}${first.slice(first.length - after)}`;
}
