import type { Activation } from "../../kernels/activation.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Window } from "../batch/mask.ts";
import { type Norm, statisticsWidth } from "../gpu/norm_operations.ts";
import type { LogitOptions } from "../gpu/operations.ts";
import type { RopeSpec } from "./rope_table.ts";
import type { Op, OpOf, Segment, Value } from "./graph.ts";
import { activation, glu } from "./ops/activation.ts";
import { add } from "./ops/add.ts";
import { attention } from "./ops/attention.ts";
import { embedding } from "./ops/embedding.ts";
import { labels } from "./ops/labels.ts";
import { linear } from "./ops/linear.ts";
import { headNorm, norm } from "./ops/norm.ts";
import { rope } from "./ops/rope.ts";
import {
  type Adapter,
  commonName,
  type HeadOrder,
  isTrained,
  type ParameterPart,
  type ParameterSpec,
  partsOfAdapter,
  shapeOf,
} from "../parameters/parameter.ts";
import { type HeadNormOptions, headNormParts, rowNormParts } from "./norm_parts.ts";

/** A value between two stages of a pipeline, and whether a trained parameter before it leads to it. */
export interface Boundary {
  value: Value;
  hasGradient: boolean;
}

/**
 * A model's graph as its file writes it: each method adds an op and gives its output. Names are those of the
 * checkpoint, within a layer without the layer's; the same name twice is the same parameter.
 */
export class Net {
  readonly segments: Segment[] = [];
  /** The windows of its layers' attention, each once: a batch has a mask for each. */
  readonly windows: Window[] = [];
  /** The rotations of its layers, each once: a batch has a table for each. */
  readonly ropes: RopeSpec[] = [];
  /** What is done to the head's logits. */
  logits: LogitOptions = {};
  /** The embedding's table; the first parameter. */
  inputEmbeddings!: ParameterSpec;
  /** The head's matrix, which is the embedding's table where they are tied. */
  outputEmbeddings!: ParameterSpec;
  headBias?: ParameterSpec;
  /** Of the last norm. */
  finalNorm!: ParameterSpec;
  /** Floats of all of a layer's queries. */
  attentionWidth = 0;
  /** In the order of the forward pass. */
  readonly parameters: ParameterSpec[] = [];
  /** Floats of a row's statistics of the final norm. */
  finalStatistics = 1;
  /** Of a stage of a pipeline: the value that it begins with, which another makes. */
  readonly received?: Boundary;
  /** Likewise the one that it ends with, which another reads. */
  readonly sent?: Boundary;
  readonly #byName = new Map<string, ParameterSpec>();
  #prefix = "";

  constructor() {
    this.#begin("model");
  }

  /** The longest norm or bias that is trained; 0 without one. */
  get longestVector(): number {
    // The sums of a bias of the head are another's.
    const isVector = (spec: ParameterSpec) => spec.kind !== "matrix" && spec !== this.headBias;
    const vectors = this.parameters.filter((spec) => isVector(spec) && isTrained(spec)).map(shapeOf);
    return Math.max(0, ...vectors.map(([rows, columns]) => rows * columns));
  }

  /** The matrices of linear layers, the head's not among them. */
  get linearWeights(): ParameterSpec[] {
    return this.segments.flatMap(({ ops }) => ops).flatMap(({ isProduct, parameters: [weight] }) =>
      isProduct && weight.kind === "matrix" ? [weight] : []
    );
  }

  /** Gives a linear layer's matrix an adapter, and the op that reads it its parameters. */
  adapt(weight: ParameterSpec, adapter: Adapter): void {
    const parts = partsOfAdapter(adapter);
    weight.adapter = adapter;
    this.parameters.push(...parts);
    for (const op of this.segments.flatMap(({ ops }) => ops)) {
      if (op.isProduct && op.parameters[0] === weight) op.parameters.push(...parts);
    }
  }

  /** The values that have a gradient: those that a trained parameter leads to. */
  valuesWithGradient(): ReadonlySet<Value> {
    const found = new Set<Value>(this.received?.hasGradient ? [this.received.value] : []);
    for (const { output, inputs, parameters } of this.segments.flatMap(({ ops }) => ops)) {
      if (parameters.some(isTrained) || inputs.some((input) => found.has(input))) found.add(output);
    }
    return found;
  }

  get hiddenSize(): number {
    return this.inputEmbeddings.columns;
  }

  get vocabSize(): number {
    return shapeOf(this.outputEmbeddings)[0];
  }

  get layers(): Segment[] {
    return this.segments.filter(({ input }) => input !== undefined);
  }

  /** A layer: what checkpointing makes again as a whole. */
  layer(name: string, input: Value, body: (input: Value) => Value): Value {
    this.#begin(name, input);
    this.#prefix = `${name}.`;
    const output = body(input);
    this.#prefix = "";
    this.#begin("model");
    return output;
  }

  /**
   * Rows of a table at the batch's token ids, times `scale`; the row of `padTokenId` is never trained, as in PyTorch.
   */
  embedding(
    name: string,
    rows: number,
    columns: number,
    options: { padTokenId?: number; scale?: number } = {},
  ): Value {
    const table = this.#parameter([`${name}.weight`], [rows], columns);
    if (options.padTokenId !== undefined) table.padTokenId = options.padTokenId;
    this.inputEmbeddings = table;
    return this.#op(name, columns, [], (output) => embedding(output, table, options.scale));
  }

  /** @param options `onePlus`: the factor is 1 + weight. */
  rmsNorm(x: Value, name: string, epsilon: number, options: Pick<Norm, "onePlus"> = {}): Value {
    return this.#rowNorm(x, name, { kind: "rms", epsilon, ...options });
  }

  /** @param options `bias`: there is one; `onePlus`: the factor is 1 + weight. */
  layerNorm(x: Value, name: string, epsilon: number, options: Pick<Norm, "bias" | "onePlus"> = {}): Value {
    return this.#rowNorm(x, name, { kind: "layer", epsilon, ...options });
  }

  #rowNorm(x: Value, name: string, how: Norm): Value {
    const weight = this.#normWeight(name, x.width, how);
    return this.#op(
      name,
      x.width,
      [[statisticsName(how), statisticsWidth(how)]],
      (output, statistics) => norm(output, statistics, x, weight, how),
    );
  }

  /**
   * One product with the rows of several matrices under each other: a name and its rows each. All have a bias, or none.
   * @param scale multiplies product and bias.
   * @param order of fused queries, keys and values, where their rows lie group by group in the checkpoint; the
   * product has all queries, all keys, all values.
   */
  linear(
    x: Value,
    matrices: Record<string, number>,
    { bias = false, order, scale = 1 }: { bias?: boolean; order?: HeadOrder; scale?: number } = {},
  ): Value {
    const [names, rows] = [Object.keys(matrices), Object.values(matrices)];
    const weight = this.#parameter(names.map((name) => `${name}.weight`), rows, x.width, "matrix", order);
    const width = rows.reduce((sum, n) => sum + n);
    const added = bias
      ? this.#parameter(names.map((name) => `${name}.bias`), rows, 1, "bias", order)
      : undefined;
    return this.#op(commonName(names), width, [], (output) => linear(output, x, weight, added, scale));
  }

  /**
   * Norms of the queries and keys of [queries, keys, values], by default RMSNorm of each head.
   *
   * @param names of their weights: one [headDim] for all heads ("shared"), one [heads, headDim] ("each"), one
   *   [headDim] a head under the names `NAME.0`, `NAME.1` and so on ("list"), or one [heads * headDim] of a norm over
   *   all heads' columns ("whole").
   */
  headNorm(
    qkv: Value,
    names: { q: string; k: string },
    shape: AttentionShape,
    epsilon: number,
    { kind = "rms", weights = "shared", onePlus, bias }: HeadNormOptions = {},
  ): Value {
    const how: Norm = {
      kind,
      epsilon,
      onePlus,
      bias,
      heads: { ...shape, weights: weights === "list" ? "each" : weights },
    };
    const name = commonName([names.q, names.k]);
    const parts = headNormParts(names, shape, how, weights);
    const weight = this.#parameterOf(`${name}.weight`, parts, shape.headDim, "norm");
    return this.#op(
      name,
      qkv.width,
      [[statisticsName(how), statisticsWidth(how)]],
      (output, statistics) => headNorm(output, statistics, qkv, weight, how),
    );
  }

  /** Rotates the query and key heads of [queries, keys, values]. */
  rope(qkv: Value, shape: AttentionShape, spec: RopeSpec): Value {
    const key = JSON.stringify(spec);
    const known = this.ropes.findIndex((other) => JSON.stringify(other) === key);
    const table = known < 0 ? this.ropes.push(spec) - 1 : known;
    return this.#op(
      `${this.#short(qkv)} rotated`,
      qkv.width,
      [],
      (output) => rope(output, qkv, shape, spec, table),
    );
  }

  /**
   * @param options.window how many tokens back a token sees, itself included; all where it is undefined.
   * @param options.scale, options.softcap see `AttentionShape`.
   */
  attention(
    qkv: Value,
    shape: AttentionShape,
    { window, scale, softcap }: { window?: Window; scale?: number; softcap?: number } = {},
  ): Value {
    const { heads, headDim } = shape;
    this.attentionWidth = heads * headDim;
    if (!this.windows.includes(window)) this.windows.push(window);
    const mask = this.windows.indexOf(window);
    return this.#op(
      "attention",
      heads * headDim,
      [["lse", heads]],
      (output, lse) => attention(output, lse, qkv, { ...shape, scale, softcap }, mask),
    );
  }

  /** act(gate) * up of [gate, up]. */
  glu(gateUp: Value, act: Activation): Value {
    const name = `${this.#short(gateUp)} activated`;
    return this.#op(name, gateUp.width / 2, [], (output) => glu(output, gateUp, act));
  }

  /** act(x). */
  activation(x: Value, act: Activation): Value {
    return this.#op(`${this.#short(x)} activated`, x.width, [], (output) => activation(output, x, act));
  }

  add(x: Value, y: Value): Value {
    return this.#op(`${this.#short(y)} + residual`, x.width, [], (output) => add(output, x, y));
  }

  /**
   * What ends every model: final norm, head, what is done to its logits, and log-probabilities of the labels.
   * @param head.bias its name: a head that is the embedding's table may have one too.
   */
  labels(
    x: Value,
    finalNorm: Norm & { name: string },
    head: { name: string; rows: number; bias?: string },
    logits: LogitOptions = {},
  ): void {
    this.logits = logits;
    const { name, ...how } = finalNorm;
    this.finalStatistics = statisticsWidth(how);
    const weight = this.#normWeight(name, x.width, how);
    const matrix = this.#parameter([`${head.name}.weight`], [head.rows], x.width);
    const bias = head.bias === undefined ? undefined : this.#parameter([head.bias], [head.rows], 1, "bias");
    this.finalNorm = weight;
    this.outputEmbeddings = matrix;
    this.headBias = bias;
    this.#op("labels", 1, [], () => labels(x, { norm: how, weight, head: matrix, bias, logits }));
  }

  /** The weight of a norm of rows, and its bias under it. */
  #normWeight(name: string, columns: number, how: Norm): ParameterSpec {
    return this.#parameterOf(undefined, rowNormParts(name, how), columns, "norm");
  }

  /** A value's name within the layer. */
  #short({ name }: Value): string {
    return name.slice(this.#prefix.length);
  }

  #begin(name: string, input?: Value): void {
    this.segments.push({ name, input, ops: [] });
  }

  #parameter(
    names: string[],
    rows: number[],
    columns: number,
    kind: ParameterSpec["kind"] = "matrix",
    order?: HeadOrder,
  ): ParameterSpec {
    return this.#parameterOf(
      undefined,
      names.map((name, i) => ({ name, rows: rows[i], ...(order && { order }) })),
      columns,
      kind,
    );
  }

  /** @param name within the layer; by default what its parts have in common. */
  #parameterOf(
    name: string | undefined,
    partsInLayer: ParameterPart[],
    columns: number,
    kind: ParameterSpec["kind"],
  ): ParameterSpec {
    const parts = partsInLayer.map((part) => ({ ...part, name: this.#prefix + part.name }));
    const full = name === undefined ? commonName(parts.map(({ name }) => name)) : this.#prefix + name;
    const known = this.#byName.get(full);
    if (known) return known;
    const spec: ParameterSpec = { name: full, parts, columns, kind, role: "trained" };
    this.parameters.push(spec);
    this.#byName.set(full, spec);
    return spec;
  }

  #op(name: string, width: number, extras: [string, number][], of: OpOf): Value {
    const segment = this.segments.at(-1)!;
    const value = (suffix: string, width: number) =>
      new TracedValue(`${this.#prefix}${name}${suffix}`, width, segment);
    const output = value("", width);
    const others = extras.map(([extra, width]) => value(` ${extra}`, width));
    const op: Op = { ...of(output, ...others), output, extras: others };
    for (const made of [output, ...others]) made.op = op;
    for (const input of op.inputs) input.uses.push(op);
    segment.ops.push(op);
    return output;
  }
}

const statisticsName = ({ kind }: Norm) => kind === "rms" ? "rstd" : "mean and rstd";

/** An op and its values name each other: the values come first. */
class TracedValue implements Value {
  op!: Op;
  readonly uses: Op[] = [];
  constructor(readonly name: string, readonly width: number, readonly segment: Segment) {}
}
