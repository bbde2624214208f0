import type { ProductEpilogue } from "../gpu/epilogues.ts";
import type { Tensor } from "../gpu/memory.ts";
import * as kernels from "../gpu/operations.ts";
import type { KernelCall } from "../gpu/program.ts";
import { unpackRows } from "../gpu/storage_operations.ts";
import type { BackwardPass, Op, Segment, Value } from "./graph.ts";
import type { Machine } from "./machine.ts";
import type { Net } from "./net.ts";
import type { ParameterSpec } from "../parameters/parameter.ts";
import type { TrainedParameter } from "../parameters/layout.ts";
import type { Forward, SegmentCalls } from "./forward.ts";

/**
 * Derives the backward pass: the ops above a trained parameter in reverse, each asking for the values that it needs.
 */
export class Backward implements BackwardPass {
  #calls: KernelCall[] = [];
  readonly #gradients = new Map<Value, Tensor>();
  /** Parts of a gradient that could not be added to in place, since something still reads them. */
  readonly #others = new Map<Value, Tensor[]>();
  /** Values that were unpacked, made again or left in the segment at hand. */
  #there = new Map<Value, Tensor>();
  readonly #deferred = new Map<Value, { op: Op; use: (at: Tensor) => void }[]>();
  readonly #visited = new Set<Op>();
  readonly #ops: readonly Op[];
  readonly #withGradient: ReadonlySet<Value>;
  /** What was packed in the forward pass and has been read. */
  readonly unpacked = new Set<Value>();
  #current!: Op;

  constructor(readonly net: Net, readonly machine: Machine, readonly forward: Forward) {
    this.#ops = net.segments.flatMap(({ ops }) => ops);
    this.#withGradient = net.valuesWithGradient();
  }

  calls(): SegmentCalls[] {
    return this.net.segments.toReversed().map((segment) => {
      this.#calls = [];
      this.#there = new Map();
      const packed = this.#packed(segment);
      for (const [value] of packed) this.#again(value);
      for (const op of segment.ops.toReversed()) {
        if (this.hasGradient(op.output) && !this.#visited.has(op)) this.#visit(op);
      }
      const read = packed.filter(([value]) => this.unpacked.has(value));
      const unpacking = read.map(([value, tensor]) =>
        unpackRows(this.machine.rows, tensor, this.#there.get(value)!)
      );
      return { segment, calls: [...unpacking, ...this.#calls] };
    });
  }

  #visit(op: Op): void {
    this.#visited.add(op);
    this.#current = op;
    const dOutput = this.#complete(op.output);
    if (op.backwardEpilogue) {
      this.emit([op.backwardEpilogue(dOutput, this).alone]);
      this.#leave(op, dOutput);
    } else op.backward!(dOutput, this);
  }

  emit(calls: readonly KernelCall[]): void {
    // Not as arguments of one push: a head on a software driver may have more than a stack holds.
    for (const call of calls) this.#calls.push(call);
  }

  value(value: Value): Tensor {
    const { forward } = this;
    const known = this.#there.get(value);
    if (known && forward.waiting.has(value)) this.unpacked.add(value);
    if (known) return known;
    if (forward.keeping.isKept(value)) return forward.place(value);
    const { op } = value;
    const maker = forward.producers.get(op) ?? op;
    // Inputs first, so that their calls come before.
    const read = new Set([...maker.inputs, ...op.inputs].filter((input) => input !== maker.output));
    const inputs = new Map([...read].map((input) => [input, this.value(input)]));
    // Remembered, it would need its bytes until its last reader.
    const isAnew = op.inBackward === "again" && value === op.output;
    const anew = isAnew ? this.scratch(`${value.name} anew`, value.width) : undefined;
    const into = (made: Value) => made === value && anew ? anew : this.#again(made);
    this.emit(forward.make(maker, { of: (input) => inputs.get(input)!, into, fuses: (next) => next === op }));
    return into(value);
  }

  extra(value: Value): Tensor {
    if (!this.forward.keeping.isKept(value) && !this.#there.has(value)) this.value(value.op.output);
    return this.#again(value);
  }

  whenThere(value: Value, use: (at: Tensor) => void): void {
    const isToBeLeft = value.op.inBackward === "left" && this.hasGradient(value);
    if (!isToBeLeft || this.#there.has(value)) return use(this.value(value));
    const deferred = this.#deferred.get(value) ?? [];
    this.#deferred.set(value, [...deferred, { op: this.#current, use }]);
  }

  scratch(name: string, width: number): Tensor {
    return this.machine.shared(name, "scratch", width);
  }

  hasGradient(value: Value): boolean {
    return this.#withGradient.has(value);
  }

  gradient(value: Value, calls: (dX: Tensor, adds: boolean) => KernelCall[]): void {
    if (!this.hasGradient(value)) return;
    const known = this.#gradients.get(value);
    if (known && !this.#isRead(known, value)) this.emit(calls(known, true));
    else this.newGradient(value, (dX) => calls(dX, false));
  }

  newGradient(value: Value, calls: (dX: Tensor) => KernelCall[]): void {
    if (!this.hasGradient(value)) return;
    const dX = this.#fresh(value);
    this.emit(calls(dX));
    this.handOn(value, dX);
  }

  productGradient(
    value: Value,
    calls: (dX: Tensor, adds: boolean, epilogue?: ProductEpilogue) => KernelCall[],
  ): void {
    const { op, uses } = value;
    if (!op.backwardEpilogue || uses.length > 1 || !this.hasGradient(value)) {
      return this.gradient(value, calls);
    }
    this.#visited.add(op);
    const dX = this.#fresh(value);
    const epilogue = op.backwardEpilogue(dX, this);
    this.emit(calls(dX, false, epilogue));
    this.#leave(op, dX);
  }

  gradientInPlace(value: Value, dOutput: Tensor, calls: (dX: Tensor) => KernelCall[]): void {
    if (!this.hasGradient(value)) return;
    const dX = this.#isRead(dOutput, this.#current.output) ? this.#fresh(value) : dOutput;
    this.handOn(value, dX, calls(dX));
  }

  handOn(value: Value, gradient: Tensor, calls: readonly KernelCall[] = []): void {
    if (!this.hasGradient(value)) return;
    this.emit(calls);
    const known = this.#gradients.get(value);
    if (known) this.#others.set(value, [...this.#others.get(value) ?? [], known]);
    this.#gradients.set(value, gradient);
  }

  parameterGradient(
    parameter: ParameterSpec,
    calls: (pieces: readonly TrainedParameter[]) => KernelCall[],
  ): void {
    const pieces = this.machine.parameters.trained(parameter);
    if (pieces.length > 0) this.emit(calls(pieces));
  }

  isBegun(parameter: ParameterSpec): boolean {
    return this.#ops.some((op) =>
      op !== this.#current && this.#visited.has(op) && op.parameters.includes(parameter)
    );
  }

  /** After an op's epilogue has run: its input has become the gradient, and `dOutput` its output. */
  #leave(op: Op, dOutput: Tensor): void {
    const [input] = op.inputs;
    this.#gradients.set(input, this.value(input));
    this.#there.set(op.output, dOutput);
    const deferred = this.#deferred.get(op.output) ?? [];
    this.#deferred.delete(op.output);
    for (const { use } of deferred) use(dOutput);
  }

  /** The whole gradient of a value, which all its readers have added to. */
  #complete(value: Value): Tensor {
    const parts = [this.#gradients.get(value)!, ...this.#others.get(value) ?? []];
    return parts.reduce((sum, part) => {
      const whole = this.#fresh(value);
      this.emit([kernels.add(this.machine.rows, sum, part, whole)]);
      return whole;
    });
  }

  /**
   * Whether something else still reads a tensor as its gradient: adding to `value`'s there would change that too. A
   * residual that runs beside two branches hands one tensor to all of them.
   */
  #isRead(gradient: Tensor, value: Value): boolean {
    const deferred = new Set([...this.#deferred.values()].flat().map(({ op }) => op));
    const isToCome = (op: Op) => !this.#visited.has(op) || deferred.has(op);
    return [...this.#others.values()].flat().includes(gradient) ||
      this.#ops.some((op) =>
        op.output !== value && isToCome(op) && this.#gradients.get(op.output) === gradient
      );
  }

  #fresh(value: Value): Tensor {
    return this.scratch(`gradient of ${value.name}`, value.width);
  }

  /** Where the backward pass puts a value that it makes again. */
  #again(value: Value): Tensor {
    const { forward } = this;
    if (forward.keeping.isKept(value)) return forward.place(value);
    const known = this.#there.get(value);
    if (known) return known;
    const made = this.scratch(`${value.name} again`, value.width);
    this.#there.set(value, made);
    return made;
  }

  /** What waits of a layer, and where. */
  #packed(segment: Segment): [value: Value, tensor: Tensor][] {
    const { keeping, waiting } = this.forward;
    return [...waiting].filter(([value]) => keeping.owner(value) === segment);
  }
}
