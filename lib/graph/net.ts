import type { AttentionShape } from "../../kernels/attention.ts";
import type { Window } from "../batch/batch.ts";
import type { LogitOptions } from "../gpu/operations.ts";
import type { RopeSpec } from "../models/rope_table.ts";
import type { Op, Segment, Value } from "./graph.ts";
import { add } from "./ops/add.ts";
import { attention } from "./ops/attention.ts";
import { embedding } from "./ops/embedding.ts";
import { headNorm } from "./ops/head_norm.ts";
import { labels } from "./ops/labels.ts";
import { linear } from "./ops/linear.ts";
import { rmsNorm } from "./ops/rms_norm.ts";
import { rope } from "./ops/rope.ts";
import { swiglu } from "./ops/swiglu.ts";
import { commonName, type ParameterSpec, shapeOf } from "./parameter.ts";

/** What an op says of itself before it has its place in the graph. */
export type OpParts = Omit<Op, "output" | "extras">;

/** Makes an op around the values that it is to make. */
export type OpOf = (output: Value, ...extras: Value[]) => OpParts;

/**
 * A model's graph as its file writes it: each method adds an op and gives its output. Names are those of the checkpoint, within a
 * layer without the layer's; the same name twice is the same parameter.
 */
export class Net {
  readonly segments: Segment[] = [];
  /** The windows of its layers' attention, each once: a batch has a mask for each. */
  readonly windows: Window[] = [];
  /** The rotations of its layers, each once: a batch has a table for each. */
  readonly ropes: RopeSpec[] = [];
  /** What is done to the head's logits. */
  logits: LogitOptions = {};
  /** In the order of the forward pass. */
  readonly parameters: ParameterSpec[] = [];
  #prefix = "";

  constructor() {
    this.#begin("model");
  }

  /** The longest norm or bias. */
  get longestVector(): number {
    const vectors = this.parameters.filter(({ kind }) => kind !== "matrix").map(shapeOf);
    return Math.max(...vectors.map(([rows, columns]) => rows * columns));
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

  /** Rows of a table at the batch's token ids, times `scale`; the row of `padTokenId` is never trained, as in PyTorch. */
  embedding(
    name: string,
    rows: number,
    columns: number,
    options: { padTokenId?: number; scale?: number } = {},
  ): Value {
    const table = this.#parameter([`${name}.weight`], [rows], columns);
    return this.#op(name, columns, [], (output) => embedding(output, table, options));
  }

  rmsNorm(x: Value, name: string, epsilon: number): Value {
    const weight = this.#parameter([`${name}.weight`], [1], x.width, "norm");
    return this.#op(
      name,
      x.width,
      [["rstd", 1]],
      (output, rstd) => rmsNorm(output, rstd, x, weight, epsilon),
    );
  }

  /** One product with the rows of several matrices under each other: a name and its rows each. All have a bias, or none. */
  linear(x: Value, matrices: Record<string, number>, { bias = false } = {}): Value {
    const [names, rows] = [Object.keys(matrices), Object.values(matrices)];
    const weight = this.#parameter(names.map((name) => `${name}.weight`), rows, x.width);
    const width = rows.reduce((sum, n) => sum + n);
    const added = bias ? this.#parameter(names.map((name) => `${name}.bias`), rows, 1, "bias") : undefined;
    return this.#op(commonName(names), width, [], (output) => linear(output, x, weight, added));
  }

  /** RMSNorm of each query and key head of [queries, keys, values]. */
  headNorm(qkv: Value, { q, k }: { q: string; k: string }, shape: AttentionShape, epsilon: number): Value {
    const weight = this.#parameter([`${q}.weight`, `${k}.weight`], [1, 1], shape.headDim, "norm");
    const extras: [string, number][] = [["rstd", shape.heads + shape.keyValueHeads]];
    return this.#op(
      commonName([q, k]),
      qkv.width,
      extras,
      (output, rstd) => headNorm(output, rstd, qkv, weight, shape, epsilon),
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

  /** @param window how many tokens back a token sees, itself included; all where it is undefined. */
  attention(qkv: Value, shape: AttentionShape, window?: Window): Value {
    const { heads, headDim } = shape;
    if (!this.windows.includes(window)) this.windows.push(window);
    const mask = this.windows.indexOf(window);
    return this.#op(
      "attention",
      heads * headDim,
      [["lse", heads]],
      (output, lse) => attention(output, lse, qkv, shape, mask),
    );
  }

  /** silu(gate) * up of [gate, up]. */
  swiglu(gateUp: Value): Value {
    return this.#op(
      `${this.#short(gateUp)} activated`,
      gateUp.width / 2,
      [],
      (output) => swiglu(output, gateUp),
    );
  }

  add(x: Value, y: Value): Value {
    return this.#op(`${this.#short(y)} + residual`, x.width, [], (output) => add(output, x, y));
  }

  /** What ends every model: final norm, head, what is done to its logits, and log-probabilities of the labels. */
  labels(
    x: Value,
    norm: string,
    epsilon: number,
    head: { name: string; rows: number; bias?: boolean },
    logits: LogitOptions = {},
  ): void {
    this.logits = logits;
    const finalNorm = this.#parameter([`${norm}.weight`], [1], x.width, "norm");
    const matrix = this.#parameter([`${head.name}.weight`], [head.rows], x.width);
    const bias = head.bias ? this.#parameter([`${head.name}.bias`], [head.rows], 1, "bias") : undefined;
    this.#op("labels", 1, [], () => labels(x, { finalNorm, head: matrix, bias, epsilon, logits }));
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
  ): ParameterSpec {
    const parts = names.map((name, i) => ({ name: this.#prefix + name, rows: rows[i] }));
    const name = commonName(parts.map(({ name }) => name));
    const known = this.parameters.find((parameter) => parameter.name === name);
    if (known) return known;
    const spec = { name, parts, columns, kind };
    this.parameters.push(spec);
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

/** An op and its values name each other: the values come first. */
class TracedValue implements Value {
  op!: Op;
  readonly uses: Op[] = [];
  constructor(readonly name: string, readonly width: number, readonly segment: Segment) {}
}
