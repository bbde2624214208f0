/**
 * A model's forward pass as a graph of coarse ops, traced once from its file in `lib/models`. It knows no device and
 * no memory: `passes.ts` makes both passes' kernel calls of it, the backward one from what each op says of itself.
 */
import type { ProductEpilogue } from "../gpu/epilogues.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { BatchSize } from "../batch/size.ts";
import type { Machine } from "./machine.ts";
import type { ParameterSpec } from "../parameters/parameter.ts";
import type { TrainedParameter } from "../parameters/layout.ts";

/** What an op makes: a row of `width` floats for each token. */
export interface Value {
  readonly name: string;
  readonly width: number;
  readonly segment: Segment;
  /** What makes it. */
  readonly op: Op;
  /** What reads it, in order. */
  readonly uses: Op[];
}

/**
 * Ops that checkpointing runs again as a whole: a layer with its input, or what stands before, between and after
 * layers.
 */
export interface Segment {
  readonly name: string;
  readonly input?: Value;
  readonly ops: Op[];
}

/**
 * What the backward pass finds of an op's output: `kept` from the forward pass (or made again with its layer); made
 * `again` for each reader, where keeping costs more than making; or `left` by the op's own backward pass in the place
 * of its gradient.
 */
export type InBackward = "kept" | "again" | "left";

/** An operation: its forward and its backward pass, each as kernel calls. */
export interface Op {
  readonly inputs: readonly Value[];
  readonly output: Value;
  /** What it makes besides for its backward pass, such as a norm's 1/rms. */
  readonly extras: readonly Value[];
  readonly parameters: ParameterSpec[];
  readonly inBackward: InBackward;

  forward(at: Places): KernelCall[];
  /** Floating-point operations of the forward pass, where arithmetic bounds it. */
  flops?(size: BatchSize): number;
  /** From the gradient of the output to those of inputs and parameters; or there is a `backwardEpilogue`. */
  backward?(dOutput: Tensor, pass: BackwardPass): void;

  /** Whether it can do the op after it as it stores, as products can. */
  readonly isProduct?: true;
  /** Whether it can add a residual as it stores, and no more, as norms can. */
  readonly addsResidual?: true;
  /** Whether it adds a residual to what its other input's op makes. */
  readonly isSum?: true;

  /**
   * Whether the product that makes `input` can do this op as it stores its sums: then the product's own output is
   * nowhere ("instead"), or stands beside this op's.
   */
  fuses?(input: Value): "instead" | "beside" | undefined;
  /** What that product then does. */
  fusion?(at: Places): Fusion;
  /**
   * What the product that makes `dOutput` does as it stores its sums, or a kernel after it: it turns the one input
   * into its gradient, and leaves this op's output in `dOutput`.
   */
  backwardEpilogue?(dOutput: Tensor, pass: BackwardPass): ProductEpilogue;
}

/** What an op says of itself before it has its place in the graph. */
export type OpParts = Omit<Op, "output" | "extras">;

/** Makes an op around the values that it is to make. */
export type OpOf = (output: Value, ...extras: Value[]) => OpParts;

/** What a product does as it stores, for the op after it. */
export interface Fusion {
  /** Where the product's sums go. */
  y: Tensor;
  residual?: Tensor;
  epilogue?: ProductEpilogue;
}

/** Where the values of an op's calls are. */
export interface Places {
  readonly machine: Machine;
  /** An input. */
  of(value: Value): Tensor;
  /** An output. */
  into(value: Value): Tensor;
  /** What the op that makes `output` is to do for the one after it. */
  fusion(output: Value): Fusion | undefined;
}

/** What an op's backward pass asks for, and what it tells. */
export interface BackwardPass {
  readonly machine: Machine;
  emit(calls: readonly KernelCall[]): void;
  /** A value of the forward pass, unpacked or made again where it was not kept. */
  value(value: Value): Tensor;
  /** An extra of the forward pass, which stands where `value` of its op's output has put it. */
  extra(value: Value): Tensor;
  /** Calls `use` with a value: now, or as soon as its op's backward pass has left it there. */
  whenThere(value: Value, use: (at: Tensor) => void): void;
  /** A tensor of the op's own, [tokens, width]. */
  scratch(name: string, width: number): Tensor;
  /** Whether a trained parameter leads to a value: only then it has a gradient, and the four below do something. */
  hasGradient(value: Value): boolean;
  /** Emits the calls that make the gradient of a value, or add to it where `adds`. */
  gradient(value: Value, calls: (dX: Tensor, adds: boolean) => KernelCall[]): void;
  /** As `gradient`, by calls that cannot add. */
  newGradient(value: Value, calls: (dX: Tensor) => KernelCall[]): void;
  /** As `gradient`, by products, which take an epilogue. */
  productGradient(
    value: Value,
    calls: (dX: Tensor, adds: boolean, epilogue?: ProductEpilogue) => KernelCall[],
  ): void;
  /**
   * Emits the calls that turn the gradient of the op's output into that of a value: in its place, or beside it where
   * something else still reads it.
   */
  gradientInPlace(value: Value, dOutput: Tensor, calls: (dX: Tensor) => KernelCall[]): void;
  /** The gradient of a value is this tensor, as it is or as `calls` change it. */
  handOn(value: Value, gradient: Tensor, calls?: readonly KernelCall[]): void;
  /** Emits the calls that add to the gradient of a parameter, which is in pieces; none where it is frozen. */
  parameterGradient(
    parameter: ParameterSpec,
    calls: (pieces: readonly TrainedParameter[]) => KernelCall[],
  ): void;
  /** Whether an op that was come to before adds to the gradient of this parameter too. */
  isBegun(parameter: ParameterSpec): boolean;
}
