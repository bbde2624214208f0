import type { Tensor } from "../gpu/memory.ts";
import type { KernelCall } from "../gpu/program.ts";
import { packRows } from "../gpu/storage_operations.ts";
import type { Fusion, Op, Places, Segment, Value } from "./graph.ts";
import { Keeping } from "./keeping.ts";
import type { Machine } from "./machine.ts";
import type { Net } from "./net.ts";

/** The kernel calls of a segment. */
export interface SegmentCalls {
  segment: Segment;
  calls: KernelCall[];
}

/** The forward pass: where each value lies, and which op is done by the product before it. */
export class Forward {
  readonly keeping: Keeping;
  /** The product that does an op, and so makes its output instead of its own. */
  readonly producers = new Map<Op, Op>();
  /** Where packed values wait. */
  readonly waiting = new Map<Value, Tensor>();
  /** The op that another does as it stores. */
  readonly #fused = new Map<Op, Op>();
  readonly #places = new Map<Value, Tensor>();

  constructor(net: Net, readonly machine: Machine) {
    this.keeping = new Keeping(net, machine.capacity);
    if (net.received) this.#places.set(net.received.value, machine.received!);
    if (net.sent) this.#places.set(net.sent.value, machine.sent!);
    const there = new Set<Op>(net.received ? [net.received.value.op] : []);
    for (const op of net.segments.flatMap(({ ops }) => ops)) {
      there.add(op);
      const next = fusable(op);
      // What it reads besides must be there already: a residual may be made later.
      const isSoon = next?.inputs.every((input) => there.has(input.op) || this.producers.has(input.op));
      if (!next || !isSoon) continue;
      this.#fused.set(op, next);
      if (next.fuses!(op.output) === "instead") this.producers.set(next, op);
    }
  }

  /** Where the forward pass puts a value. */
  place(value: Value): Tensor {
    const known = this.#places.get(value);
    if (known) return known;
    const made = this.machine.shared(value.name, this.keeping.purpose(value), value.width);
    this.#places.set(value, made);
    return made;
  }

  calls(segment: Segment): KernelCall[] {
    const place = (value: Value) => this.place(value);
    for (const value of this.keeping.packed(segment, (op) => this.#isFusedAway(op))) {
      this.waiting.set(
        value,
        this.machine.shared(`${value.name} packed`, "activations", value.width, "bf16"),
      );
    }
    return segment.ops.flatMap((op) =>
      this.#isDone(op) ? [] : this.make(op, { of: place, into: place, fuses: () => true })
    );
  }

  /** The calls that pack what waits of a segment, as far as the backward pass has `unpacked` it. */
  packing(segment: Segment, unpacked: ReadonlySet<Value>): KernelCall[] {
    const { machine, keeping } = this;
    return [...this.waiting].filter(([value]) => keeping.owner(value) === segment && unpacked.has(value))
      .map(([value, waits]) => packRows(machine.rows, this.place(value), waits));
  }

  /**
   * The calls that make an op's output.
   * @param at where its values are; `fuses` says whether it does an op after it: in the forward pass always, later
   * where that op's output is what is to be made.
   */
  make(
    op: Op,
    { of, into, fuses }: Pick<Places, "of" | "into"> & { fuses: (next: Op) => boolean },
  ): KernelCall[] {
    const places: Places = {
      machine: this.machine,
      of,
      into,
      fusion: (output): Fusion | undefined => {
        const next = this.#fused.get(output.op);
        return next && fuses(next) ? next.fusion!(places) : undefined;
      },
    };
    return op.forward(places);
  }

  /** Whether it is done with the op before it. */
  #isDone(op: Op): boolean {
    return this.producers.has(op) || op.inputs.some((input) => this.#fused.get(input.op) === op);
  }

  /** Whether an op's output is nowhere, since the one after it is made instead. */
  #isFusedAway(op: Op): boolean {
    return this.#fused.get(op)?.fuses?.(op.output) === "instead";
  }
}

/** The op that `op` can do as it stores: the only one that reads its output. */
function fusable({ output, isProduct, addsResidual }: Op): Op | undefined {
  const next = output.uses.length === 1 ? output.uses[0] : undefined;
  return (isProduct || addsResidual && next?.isSum) && next?.fuses?.(output) ? next : undefined;
}
