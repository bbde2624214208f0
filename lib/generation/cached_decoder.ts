import { type Batch, pack } from "../batch/pack.ts";
import { maskOf, tileBounds, type Window } from "../batch/mask.ts";
import type { AttentionTiles } from "../../kernels/attention.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import {
  type KernelCall,
  type Pipelines,
  Program,
  readTensor,
  RowCounts,
  writeTensor,
} from "../gpu/program.ts";
import {
  attentionTiles,
  type DeviceClass,
  onlyTile,
  type ProductTiles,
  rowTile,
  usualTiles,
} from "../gpu/tuning.ts";
import type { Machine, MachineOptions } from "../graph/machine.ts";
import type { Net } from "../graph/net.ts";
import { machineOf, passesOf } from "../graph/passes.ts";
import { Uploads } from "../graph/uploads.ts";
import type { Parameters } from "../parameters/parameters.ts";

/** How the kernels of generation are chosen, and where they work. */
export interface CachedDecoderOptions {
  /** Most tokens of a prompt and its answer. */
  positions: number;
  /** Bytes of the largest buffer that the adapter can bind. */
  largestBuffer: number;
  device: DeviceClass;
  /** How the products of the prompt's pass are computed; by default as suits the device. */
  tiles?: ProductTiles;
  /** How the attention of the prompt's pass is computed; by default likewise. */
  attention?: AttentionTiles;
}

/** A batch without pairs whose one label row is the last token's: its logits say what comes next. */
export function nextTokenBatch(ids: readonly number[], windows?: readonly Window[]): Batch {
  const sequence = { ids: [...ids, 0], promptLength: ids.length };
  const batch = pack([{ chosen: sequence, truncated: false, where: "prompt" }], windows);
  return { ...batch, pairs: 0, longest: ids.length };
}

/**
 * Greedy continuation of one row of tokens: a pass of the whole prompt, then a pass for each token, which reads the keys and values
 * of those before it from a cache. A pass chooses its token on the GPU, where the next one begins with it, so that many run before
 * the host reads what was chosen. The weights are those of `parameters`, which must be allocated.
 */
export class CachedDecoder {
  /** Each token that was chosen, at its position. */
  readonly #chosen: Tensor;
  /** The token that the next pass begins with. */
  readonly #next: Tensor;
  readonly #prompt: Pass;
  readonly #step: Pass;
  readonly #keyCounts = new RowCounts(1);
  readonly #keyRows: Tensor;
  /** The tokens whose keys the cache has. */
  #cached: number[] = [];

  /** @param plan where its tensors are planned; one that another allocates with its own, or one for it alone. */
  constructor(
    readonly net: Net,
    parameters: Parameters,
    readonly options: CachedDecoderOptions,
    readonly plan: MemoryPlan = new MemoryPlan(),
  ) {
    const { positions, device, tiles = usualTiles(device), attention = attentionTiles(device) } = options;
    const caches = new Map<string, Tensor>();
    const cache = (name: string, width: number) => {
      const known = caches.get(name) ?? plan.tensor(`${name} cache`, "cache", [positions, width]);
      caches.set(name, known);
      return known;
    };
    this.#chosen = plan.tensor("chosen", "cache", [positions + 1]);
    this.#keyRows = plan.tensor("key rows", "batch", [this.#keyCounts.bytes / 4]);
    // Uniforms: UNIFORM, COPY_DST.
    Object.assign(this.#keyRows.slab, { usage: 0x40 | 0x08 });
    this.#next = plan.tensor("next", "cache", [1]);
    const generation = { cache, chosen: this.#chosen, next: this.#next };
    const pass = (tokens: number, options: Omit<MachineOptions, "loss" | "training">) => {
      const capacity = { tokens, labels: 1, pairs: 1, positions, logitsBytes: 0, checkpointing: false };
      return new Pass(
        net,
        machineOf(net, plan, parameters, capacity, { ...options, loss: "", training: false }),
      );
    };
    this.#prompt = pass(positions, { tiles, attention, generation });
    this.#step = pass(1, {
      tiles: onlyTile(rowTile(device), { fuses: tiles.fuses }),
      attention: stepAttention(attention),
      // Its count is no dispatch's.
      generation: { ...generation, keyRows: { slot: 0, tensor: this.#keyRows } },
    });
    plan.share(this.calls, options.largestBuffer);
  }

  get calls(): KernelCall[] {
    return [...this.#prompt.calls, ...this.#step.calls];
  }

  /** Creates the buffers of a plan that is its own, and compiles. */
  async allocate(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    await this.plan.allocate(gpu);
    await this.compile(gpu, pipelines);
  }

  /** Compiles the kernels, over a plan that is allocated. */
  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    await this.#prompt.compile(gpu, pipelines);
    await this.#step.compile(gpu, pipelines);
    const { batch, uploads } = this.#step;
    writeTensor(gpu, batch.uploaded.labelRows, Uint32Array.of(0));
    for (const { slot } of [batch.tokenRows, batch.labelSlot, ...batch.pieces]) {
      batch.rowCounts.set(slot, { count: 1 });
    }
    batch.rowCounts.upload(gpu, batch.rows);
    uploads.writeTables(gpu, 0);
    gpu.check();
  }

  /**
   * The most likely tokens that follow `ids`, one after the other: `count`, or fewer, but one at least. What the cache still has of
   * the row is not computed again: the weights must be those of the calls before.
   */
  async next(gpu: Gpu, ids: readonly number[], count: number): Promise<number[]> {
    const { positions } = this.options;
    if (ids.length === 0 || ids.length >= positions) {
      throw new RangeError(`${ids.length} tokens: expected 1 to ${positions - 1}`);
    }
    const { uploads } = this.#step;
    const last = ids.length - 1;
    const isThere = last > 0 && uploads.hasTables(ids.length) && this.#cached.length >= last &&
      ids.every((id, i) => i === last || id === this.#cached[i]);
    if (isThere) {
      writeTensor(gpu, this.#next, Uint32Array.of(ids[last]));
      this.#runStep(gpu, last);
    } else {
      this.#prompt.uploads.upload(gpu, nextTokenBatch(ids, this.net.windows), {
        firstOfStep: true,
        pairsOfStep: 1,
      });
      uploads.writeTables(gpu, ids.length);
      this.#prompt.run(gpu);
    }
    let made = 1;
    // Where a longer row is rotated otherwise, so are its first keys: the prompt's pass makes them again.
    while (made < count && ids.length + made < positions && uploads.hasTables(ids.length + made)) {
      this.#runStep(gpu, last + made);
      made++;
    }
    const chosen = [...new Uint32Array(await readTensor(gpu, this.#chosen, ids.length, made))];
    this.#cached = [...ids, ...chosen.slice(0, -1)];
    return chosen;
  }

  destroy(): void {
    this.plan.destroy();
  }

  /** The pass of the token at `position`. */
  #runStep(gpu: Gpu, position: number): void {
    this.#keyCounts.set(0, { count: position + 1 });
    this.#keyCounts.upload(gpu, this.#keyRows);
    for (const [i, { spans, queryTiles }] of this.#step.batch.masks.entries()) {
      const mask = maskOf([{ start: 0, prefix: 0, part: 0, position }], this.net.windows[i]);
      writeTensor(gpu, spans, mask.spans);
      writeTensor(gpu, queryTiles, tileBounds([...mask.spans], position + 1).queryTiles);
    }
    this.#step.run(gpu);
  }
}

/** One of the two programs. */
class Pass {
  readonly calls: KernelCall[];
  readonly uploads: Uploads;
  #program?: Program;

  constructor(net: Net, readonly machine: Machine) {
    this.calls = passesOf(net, machine).forward.flatMap(({ calls }) => calls);
    this.uploads = new Uploads(machine, net.ropes);
  }

  get batch(): Machine["batch"] {
    return this.machine.batch;
  }

  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    this.machine.products.upload(gpu);
    this.#program = await Program.compile(pipelines, this.calls);
  }

  run(gpu: Gpu): void {
    const encoder = gpu.device.createCommandEncoder();
    this.#program!.encode(encoder, this.batch.rowCounts.counts);
    gpu.device.queue.submit([encoder.finish()]);
  }
}

/** Of one query: a thread would keep others in vain. */
function stepAttention(tiles: AttentionTiles): AttentionTiles {
  const { forward } = tiles;
  return forward.memory === "workgroup" ? tiles : { ...tiles, forward: { ...forward, rows: 1 } };
}
