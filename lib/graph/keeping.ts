import type { Net } from "./net.ts";
import type { Op, Segment, Value } from "./graph.ts";
import type { Capacity } from "./machine.ts";

/** What the backward pass finds of the forward pass: each value as it was, packed, or to be made again. */
export class Keeping {
  readonly #owners = new Map<Value, Segment>();
  readonly #whole?: Segment;

  constructor(net: Net, readonly capacity: Pick<Capacity, "checkpointing" | "keptStorage">) {
    // The backward pass begins with the last layer: what that has made is still there. In a stage of a pipeline other
    // passes may come between, before another stage's layers.
    if (!net.sent) this.#whole = net.layers.at(-1)!;
    for (const layer of net.layers) this.#owners.set(layer.input!, layer);
  }

  /** Whether the backward pass runs a layer's forward pass again. */
  recomputes(segment: Segment): boolean {
    return isLayer(segment) && this.capacity.checkpointing && segment !== this.#whole;
  }

  /** Whether what waits of a layer is rounded to bfloat16. */
  packs(segment: Segment): boolean {
    return isLayer(segment) && this.capacity.keptStorage === "bf16" && segment !== this.#whole;
  }

  /** The layer that decides how a value waits: the one that it is the input of, or else the one that makes it. */
  owner(value: Value): Segment {
    return this.#owners.get(value) ?? value.segment;
  }

  /** Whether the backward pass reads a value where the forward pass has put it. */
  isKept(value: Value): boolean {
    const { op } = value;
    const segment = this.owner(value);
    if (value === op.output && op.inBackward !== "kept") return false;
    // An extra is too small to be packed; that of an op which is not run again stays.
    if (this.packs(segment)) {
      return !this.recomputes(segment) && value !== op.output && op.inBackward === "kept";
    }
    return !this.recomputes(segment) || value === segment.input;
  }

  /** What it counts as in the plan. */
  purpose(value: Value): "activations" | "scratch" {
    return this.isKept(value) && !this.packs(this.owner(value)) ? "activations" : "scratch";
  }

  /**
   * The values of a layer that wait packed: its input and, unless it is run again, what it has made, but for `fused`
   * ops' outputs.
   */
  packed(segment: Segment, isFused: (op: Op) => boolean): Value[] {
    if (!this.packs(segment)) return [];
    const made = segment.ops.filter((op) => op.inBackward === "kept" && !isFused(op)).map(({ output }) =>
      output
    )
      .filter((value) => this.owner(value) === segment);
    return [segment.input!, ...(this.recomputes(segment) ? [] : made)];
  }
}

const isLayer = ({ input }: Segment) => input !== undefined;
