/**
 * Places tensors that share bytes: a tensor needs its bytes from the first kernel call that binds it to the last.
 * Both are read off the calls' own bindings, so they cannot go stale.
 */
import type { StorageType } from "../../kernels/storage.ts";
import type { Purpose, Slab, Tensor, TextureSlab } from "./memory.ts";
import type { KernelCall } from "./program.ts";

/** A tensor that has bytes of its own only while it lives. It lies nowhere until the plan has placed it. */
export class SharedTensor implements Tensor {
  place?: { slab: Slab; offset: number };

  constructor(
    readonly name: string,
    readonly purpose: Purpose,
    readonly shape: readonly number[],
    readonly storage: StorageType,
    readonly bytes: number,
  ) {}

  get slab(): Slab {
    return this.#placed.slab;
  }

  get offset(): number {
    return this.#placed.offset;
  }

  get #placed() {
    if (!this.place) throw new Error(`${this.name} is bound by no kernel call that the plan was placed for`);
    return this.place;
  }
}

/** What binds tensors, or copies what they hold: a kernel call, or what stands between such. */
export interface TensorUse extends Pick<KernelCall, "label" | "source" | "bindings"> {
  copies?: readonly { source: Tensor }[];
}

/** From which call to which a tensor lives, and what may not lie in the same buffer. */
export interface Life {
  tensor: SharedTensor;
  first: number;
  last: number;
  /**
   * Tensors that a kernel reads where it writes this one, or the reverse: WebGPU allows a buffer one of both in a
   * dispatch, whatever the ranges.
   */
  conflicts: Set<SharedTensor>;
}

/** The lives of all shared tensors that `calls` bind, in the order of their first use. */
export function livesIn(calls: readonly TensorUse[]): Life[] {
  const lives = new Map<SharedTensor, Life>();
  const accessOf = accesses();
  const sharedBy = (bound: Tensor | TextureSlab, index: number): SharedTensor | undefined => {
    // A texture is no part of anything.
    const root = (bound as Tensor).base ?? bound;
    if (!(root instanceof SharedTensor)) return;
    const life = lives.get(root);
    if (life) life.last = index;
    else lives.set(root, { tensor: root, first: index, last: index, conflicts: new Set() });
    return root;
  };
  for (const [index, call] of calls.entries()) {
    const access = accessOf(call);
    const read: SharedTensor[] = [];
    const written: SharedTensor[] = [];
    call.bindings.forEach((bound, i) => {
      const shared = sharedBy(bound, index);
      if (shared && access[i] === "read") read.push(shared);
      if (shared && access[i] === "read_write") written.push(shared);
    });
    // What is copied is read before the dispatch, not in it.
    for (const { source } of call.copies ?? []) sharedBy(source, index);
    for (const one of read) {
      for (const other of written) {
        if (one === other) {
          throw new Error(`${call.label} reads ${one.name} and writes it through another binding`);
        }
        lives.get(one)!.conflicts.add(other);
        lives.get(other)!.conflicts.add(one);
      }
    }
  }
  return [...lives.values()];
}

/** Bytes of a buffer, and who lies where in it, from its beginning on. */
interface Shelf {
  slab: Slab & { bytes: number };
  content: (Life & { offset: number })[];
}

/**
 * Gives every tensor a range of as few and as small buffers as a greedy search finds: the largest first, each at the
 * lowest offset of the buffer that grows least by it. No buffer grows past `largest` bytes, unless one tensor is
 * larger.
 */
export function place(lives: readonly Life[], largest: number, newSlab: (name: string) => Slab): Slab[] {
  const shelves: Shelf[] = [];
  const bySize = [...lives].sort((a, b) => b.tensor.bytes - a.tensor.bytes || a.first - b.first);
  for (const life of bySize) {
    const { bytes, name } = life.tensor;
    let best: { shelf?: Shelf; offset: number; growth: number } = { offset: 0, growth: bytes };
    const conflicting = new Set([...life.conflicts].map(({ place }) => place?.slab));
    for (const shelf of shelves) {
      if (conflicting.has(shelf.slab)) continue;
      const offset = lowestOffset(shelf, life);
      const growth = Math.max(0, offset + bytes - shelf.slab.bytes);
      const isBetter = best.shelf ? growth < best.growth : growth <= best.growth;
      if (isBetter && (growth === 0 || offset + bytes <= largest)) {
        best = { shelf, offset, growth };
      }
    }
    if (!best.shelf) {
      best.shelf = { slab: newSlab(name), content: [] };
      shelves.push(best.shelf);
    }
    const { shelf, offset } = best;
    shelf.slab.bytes = Math.max(shelf.slab.bytes, offset + bytes);
    const after = shelf.content.findIndex((other) => other.offset > offset);
    shelf.content.splice(after < 0 ? shelf.content.length : after, 0, { ...life, offset });
    life.tensor.place = { slab: shelf.slab, offset };
  }
  return shelves.map(({ slab }) => slab);
}

/** The first gap of enough bytes between the tensors that live at the same time. */
function lowestOffset({ content }: Shelf, { tensor, first, last }: Life): number {
  let offset = 0;
  for (const other of content) {
    if (other.first > last || first > other.last) continue;
    if (offset + tensor.bytes <= other.offset) break;
    offset = Math.max(offset, other.offset + other.tensor.bytes);
  }
  return offset;
}

/**
 * Checks that tensors which live at the same time lie apart: for calls other than those that the tensors were placed
 * for.
 * @throws {Error} naming two that do not; a defect.
 */
export function checkPlacement(lives: readonly Life[]): void {
  lives.forEach((a, i) => {
    for (const b of lives.slice(i + 1)) {
      if (a.tensor.slab !== b.tensor.slab) continue;
      const together = a.first <= b.last && b.first <= a.last &&
        a.tensor.offset < b.tensor.offset + b.tensor.bytes &&
        b.tensor.offset < a.tensor.offset + a.tensor.bytes;
      if (together || a.conflicts.has(b.tensor)) {
        throw new Error(`${a.tensor.name} and ${b.tensor.name} were placed for other kernel calls`);
      }
    }
  });
}

/** Bytes by purpose at the call where most are alive. */
export function peakOf(lives: readonly Life[]): Map<Purpose, number> {
  const changes = new Map<number, number>();
  const change = (at: number, bytes: number) => changes.set(at, (changes.get(at) ?? 0) + bytes);
  for (const { first, last, tensor } of lives) {
    change(first, tensor.bytes);
    change(last + 1, -tensor.bytes);
  }
  let [alive, most, peak] = [0, 0, 0];
  for (const at of [...changes.keys()].sort((a, b) => a - b)) {
    alive += changes.get(at)!;
    if (alive > most) [most, peak] = [alive, at];
  }
  const byPurpose = new Map<Purpose, number>();
  for (const { first, last, tensor: { purpose, bytes } } of lives) {
    if (first <= peak && peak <= last) byPurpose.set(purpose, (byPurpose.get(purpose) ?? 0) + bytes);
  }
  return byPurpose;
}

type Access = "uniform" | "read" | "read_write" | "texture";

/** How a call's kernel accesses each of its bindings, by the WGSL's declarations; each text is looked at once. */
function accesses(): (call: TensorUse) => Access[] {
  const known = new Map<string, Access[]>();
  return ({ label, source, bindings }) => {
    let found = known.get(source);
    if (!found) {
      found = [];
      for (
        const [, binding, access] of source.matchAll(
          /@binding\((\d+)\)\s*var(?:<(?:storage,\s*)?(uniform|read_write|read)>)?/g,
        )
      ) {
        found[Number(binding)] = access as Access | undefined ?? "texture";
      }
      known.set(source, found);
    }
    if (found.length !== bindings.length || found.includes(undefined as never)) {
      throw new Error(`kernel ${label} declares ${found.length} bindings and is given ${bindings.length}`);
    }
    return found;
  };
}
