import { heed } from "../progress/heed.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { Gpu } from "./device.ts";
import { withMatrices } from "./matrices.ts";
import { elementBytes, type Tensor, type TextureSlab } from "./memory.ts";
import { distinctCopies, encodeCopy, meets, type TextureCopy } from "./texture_copy.ts";

/** Numbers of rows that change from batch to batch: each is a slot of one uniform buffer that kernels read. */
export interface RowCount {
  count: number;
  /** Whether sums over these rows add to what is there. */
  accumulate?: boolean;
  scale?: number;
  /** Of what is drawn by chance in them; 0: nothing is. */
  key?: number;
}

export const SLOT_BYTES = 256;

/** The run-time row counts of a program: written in one piece before each submission. */
export class RowCounts {
  readonly bytes: number;
  readonly counts: Uint32Array;
  readonly #data: ArrayBuffer;

  constructor(readonly slots: number) {
    this.bytes = slots * SLOT_BYTES;
    this.counts = new Uint32Array(slots);
    this.#data = new ArrayBuffer(this.bytes);
  }

  set(slot: number, { count, accumulate = false, scale = 1, key = 0 }: RowCount): void {
    const view = new DataView(this.#data, slot * SLOT_BYTES);
    view.setUint32(0, count, true);
    view.setUint32(4, accumulate ? 1 : 0, true);
    view.setFloat32(8, scale, true);
    view.setUint32(12, key, true);
    this.counts[slot] = count;
  }

  upload(gpu: Gpu, tensor: Tensor): void {
    gpu.device.queue.writeBuffer(tensor.slab.buffer!, tensor.offset, this.#data);
  }
}

/** The part of the row-count tensor that is one slot. */
export function slotOf(tensor: Tensor, slot: number): Tensor {
  return { ...tensor, name: `${tensor.name}[${slot}]`, offset: tensor.offset + slot * SLOT_BYTES, bytes: 16 };
}

/** A row-count slot and the tensor that holds it: what a kernel counts its rows by. */
export interface RowSlot {
  slot: number;
  tensor: Tensor;
}

/** Workgroups in x, y and, unless 1, z for the row counts of a batch; none where one is 0. */
export type Grid = (counts: Uint32Array) => [x: number, y: number, z?: number];

/** Workgroups as a line, spilling into y past the 65,535 that WebGPU allows in one direction. */
export function line(workgroups: number): [number, number] {
  const x = Math.min(workgroups, 65_535);
  return [x, x && Math.ceil(workgroups / x)];
}

/** A kernel with what it works on, not yet compiled: programs can be built, and planned, without a device. */
export interface KernelCall {
  label: string;
  source: string;
  bindings: (Tensor | TextureSlab)[];
  grid: Grid;
  /** What is copied to textures first; a copy of what its texture still holds is left out. */
  copies?: TextureCopy[];
  /** Floating-point operations, for profiles, where `work.ts` cannot tell them from label and bindings. */
  flops?: (counts: Uint32Array) => number;
  /** Of attention: which of the batch's masks it looks at, and which part of the heads it is of, if not all. */
  mask?: number;
  part?: number;
  /**
   * Of a kernel that computes a block of a larger product: those of the other blocks, which run after it. They bind
   * nothing that it does not bind, at other offsets, so that plans need only look at the first: a large model's
   * products have 200,000 blocks.
   */
  rest?: () => KernelCall[];
}

/** Every kernel of `calls`, block by block. */
export const kernelsOf = (calls: readonly KernelCall[]): KernelCall[] =>
  calls.flatMap((call) => call.rest ? [call, ...call.rest()] : [call]);

/** `call`, not run where `isRun` denies it. */
export const onlyWhere = (call: KernelCall, isRun: (counts: Uint32Array) => boolean): KernelCall => ({
  ...call,
  grid: (counts) => isRun(counts) ? call.grid(counts) : [0, 0],
  rest: call.rest && (() => call.rest!().map((other) => onlyWhere(other, isRun))),
});

interface Kernel {
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  grid: Grid;
}

interface Dispatch extends Kernel {
  label: string;
  copies: { copy: TextureCopy; by?: Kernel }[];
  /** Copies, of any dispatch, whose source or texture this kernel may write to. */
  outdates: TextureCopy[];
  /** What it reads and writes. */
  tensors: readonly Tensor[];
}

/** The kernel that each bind group was made for: how a profiler, which sees only WebGPU calls, knows a dispatch. */
export const kernelOf = new WeakMap<
  GPUBindGroup,
  Pick<KernelCall, "label" | "bindings" | "flops" | "mask" | "part">
>();

/** Compiles kernels once per source text. */
export class Pipelines {
  /** The device that they are for. */
  readonly gpu: Gpu;
  readonly #signal?: AbortSignal;
  readonly #onProgress?: OnProgress;
  readonly #cache = new Map<string, GPUComputePipeline>();
  readonly #expected = new Set<string>();

  /**
   * Without any kernel yet.
   *
   * @param signal ends `compile`, since some drivers take seconds for a kernel.
   * @param onProgress hears how many of the kernels that `expect` was told of are compiled.
   */
  constructor(gpu: Gpu, signal?: AbortSignal, onProgress?: OnProgress) {
    this.gpu = gpu;
    this.#signal = signal;
    this.#onProgress = onProgress;
  }

  /** Kernels compiled so far. */
  get size(): number {
    return this.#cache.size;
  }

  /**
   * Says which kernels will be compiled next.
   *
   * @internal
   */
  expect(calls: readonly KernelCall[]): void {
    for (const { source, copies = [] } of kernelsOf(calls)) {
      this.#expected.add(source);
      for (const { by } of copies) if (by) this.#expected.add(by.source);
    }
    this.#report();
  }

  #report(): void {
    const total = this.#expected.size;
    const done = [...this.#expected].filter((source) => this.#cache.has(source)).length;
    this.#onProgress?.({ what: "compiling kernels", done, total });
  }

  /**
   * One kernel, compiled now where it was not before.
   * @throws {Error} with the compiler's message, the line and the WGSL: a kernel that does not compile is a defect.
   */
  async compile(label: string, source: string): Promise<GPUComputePipeline> {
    const known = this.#cache.get(source);
    if (known) return known;
    await heed(this.#signal);
    const { device } = this.gpu;
    device.pushErrorScope("validation");
    const code = extended(this.gpu, source);
    const module = device.createShaderModule({ label, code });
    const pipeline = device.createComputePipeline({
      label,
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const error = await device.popErrorScope();
    if (error) {
      const numbered = code.split("\n").map((text, i) => `${String(i + 1).padStart(4)} ${text}`).join("\n");
      throw new Error(`kernel ${label} does not compile: ${error.message}\n${numbered}`);
    }
    this.#cache.set(source, pipeline);
    if (this.#expected.has(source)) this.#report();
    return pipeline;
  }
}

/** `source` with the extensions of WGSL that it needs on this device. */
function extended({ device, subgroups }: Gpu, source: string): string {
  if (!subgroups?.areEnabledInSource || !source.includes("subgroup")) return source;
  if (!source.includes("subgroup_matrix")) return `enable subgroups;\n${source}`;
  return withMatrices(device, subgroups.minSize, source);
}

/** Compiles a call's kernel, and binds what it works on. */
async function bound(pipelines: Pipelines, call: KernelCall): Promise<Kernel> {
  const { label, source, bindings, grid, flops, mask, part } = call;
  const pipeline = await pipelines.compile(label, source);
  const bindGroup = pipelines.gpu.device.createBindGroup({
    label,
    layout: pipeline.getBindGroupLayout(0),
    entries: bindings.map((bound, binding) => ({
      binding,
      resource: "slab" in bound
        ? { buffer: bound.slab.buffer!, offset: bound.offset, size: bound.bytes }
        : bound.texture!.createView(),
    })),
  });
  kernelOf.set(bindGroup, { label, bindings, flops, mask, part });
  return { pipeline, bindGroup, grid };
}

/** Dispatches of a piece: a software driver takes about a second for those of a model of 135 million parameters. */
const PIECE = 32;

/** A fixed list of dispatches over fixed buffers, replayed with the row counts of each batch. */
export class Program {
  #dispatches: Dispatch[] = [];

  private constructor(dispatches: Dispatch[]) {
    this.#dispatches = dispatches;
  }

  static async compile(pipelines: Pipelines, calls: readonly KernelCall[]): Promise<Program> {
    const kernels = kernelsOf(calls);
    const copiesOf = distinctCopies(kernels);
    const all = [...new Set(copiesOf.flat())];
    const fills = new Map<TextureCopy, Kernel>();
    for (const copy of all) if (copy.by) fills.set(copy, await bound(pipelines, copy.by));
    const dispatches: Dispatch[] = [];
    for (const [i, call] of kernels.entries()) {
      const { label, source, bindings } = call;
      const written = writtenBindings(source).map((binding) => bindings[binding]);
      const outdates = all.filter((copy) =>
        written.some((bound) => bound === copy.texture || overlaps(copy.source, bound))
      );
      const tensors = [
        ...copiesOf[i].map(({ source }) => source),
        ...bindings.filter((bound) => "slab" in bound),
      ];
      const copies = copiesOf[i].map((copy) => ({ copy, by: fills.get(copy) }));
      dispatches.push({ ...await bound(pipelines, call), label, copies, outdates, tensors });
    }
    return new Program(dispatches);
  }

  /**
   * Copies to textures stand between compute passes, so the program opens its own.
   *
   * @param next asked for another encoder after every piece of the program, whose commands it may submit.
   */
  encode(encoder: GPUCommandEncoder, counts: Uint32Array, next?: () => GPUCommandEncoder): void {
    let encoded = 0;
    const held = new Set<TextureCopy>();
    let pass: GPUComputePassEncoder | undefined;
    const dispatch = ({ pipeline, bindGroup, grid }: Kernel) => {
      const [x, y, z] = grid(counts);
      pass ??= encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(x, y, z);
    };
    for (const kernel of this.#dispatches) {
      const { grid, copies, outdates } = kernel;
      const [x, y] = grid(counts);
      if (x * y === 0) continue;
      if (next && encoded++ === PIECE) {
        pass?.end();
        pass = undefined;
        encoder = next();
        encoded = 1;
      }
      for (const { copy, by } of copies) {
        if (held.has(copy)) continue;
        if (by) dispatch(by);
        else {
          pass?.end();
          pass = undefined;
          encodeCopy(encoder, copy, counts);
        }
        for (const other of held) if (meets(other, copy)) held.delete(other);
        held.add(copy);
      }
      dispatch(kernel);
      for (const copy of outdates) held.delete(copy);
    }
    pass?.end();
  }

  /** Runs dispatch by dispatch, until `look` has seen enough of what each leaves; returns whether it has. */
  async walk(gpu: Gpu, counts: Uint32Array, look: Look): Promise<boolean> {
    for (const dispatch of this.#dispatches) {
      const encoder = gpu.device.createCommandEncoder();
      new Program([dispatch]).encode(encoder, counts);
      gpu.device.queue.submit([encoder.finish()]);
      const [x, y] = dispatch.grid(counts);
      if (x * y > 0 && await look(dispatch)) return true;
    }
    return false;
  }
}

/** Numbers of the bindings that a kernel may write. */
const writtenBindings = (source: string): number[] =>
  [
    ...source.matchAll(
      /@binding\((\d+)\)\s*var(?:<storage,\s*read_write>|[^;]*texture_storage_2d<\w+,\s*write>)/g,
    ),
  ].map(([, binding]) => Number(binding));

const overlaps = (tensor: Tensor, bound: Tensor | TextureSlab): boolean =>
  "slab" in bound && tensor.slab === bound.slab &&
  tensor.offset < bound.offset + bound.bytes && bound.offset < tensor.offset + tensor.bytes;

/** Sees what a dispatch has read and written; true ends the walk. */
export type Look = (dispatch: { label: string; tensors: readonly Tensor[] }) => Promise<boolean>;

/**
 * Copies `count` elements of a tensor, from `firstElement` on, back to the host, as they are stored; waits for the
 * GPU. The first element must start on a word of 4 bytes.
 */
export async function readTensor(
  gpu: Gpu,
  tensor: Tensor,
  firstElement = 0,
  count = tensor.bytes / elementBytes(tensor) - firstElement,
): Promise<ArrayBuffer> {
  const { device } = gpu;
  const unit = elementBytes(tensor);
  const size = Math.ceil(count * unit / 4) * 4;
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(tensor.slab.buffer!, tensor.offset + firstElement * unit, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  try {
    await staging.mapAsync(GPUMapMode.READ);
    return staging.getMappedRange().slice(0, count * unit);
  } finally {
    staging.destroy();
    gpu.check();
  }
}

/** Elements that are no reason for a submission of their own. */
const SMALL_WRITE = 2 ** 16;

/** Elements of one write: of more, the copy that is on its way lies in memory that is new, which takes up to 5 times as long. */
const PIECE_ELEMENTS = 2 ** 20;

/**
 * Writes elements as they are stored, in pieces with a submission each: one large write would be copied twice, and
 * what is written is there a second time until the next submission. They must start on a word of 4 bytes; where they
 * end within one, its other half is set to 0.
 */
export function writeTensor(
  gpu: Gpu,
  tensor: Tensor,
  data: Float32Array | Uint32Array | Uint16Array | Uint8Array,
  firstElement = 0,
): void {
  const unit = elementBytes(tensor);
  if (data.BYTES_PER_ELEMENT !== unit || (firstElement + data.length) * unit > tensor.bytes) {
    throw new RangeError(
      `${data.length} elements of ${data.BYTES_PER_ELEMENT} bytes at ${firstElement} do not fit ${tensor.name} of ` +
        `${tensor.bytes} bytes in elements of ${unit}`,
    );
  }
  for (let at = 0; at < data.length; at += PIECE_ELEMENTS) {
    let piece = data.subarray(at, at + PIECE_ELEMENTS) as typeof data & ArrayBufferView<ArrayBuffer>;
    if (piece.byteLength % 4) piece = Uint16Array.from([...piece, 0]);
    gpu.device.queue.writeBuffer(tensor.slab.buffer!, tensor.offset + (firstElement + at) * unit, piece);
    if (data.length > SMALL_WRITE) gpu.device.queue.submit([]);
  }
}

/** Every tensor that a call reads or writes, by a binding or by a copy. */
export const tensorsOf = ({ bindings, copies = [] }: KernelCall): Tensor[] => [
  ...bindings.filter((bound): bound is Tensor => "slab" in bound),
  ...copies.map(({ source }) => source),
];

/** The number of the last call that reads or writes each tensor, whole or a part of it. */
export const lastUses = (calls: readonly KernelCall[]): Map<Tensor, number> =>
  new Map(
    calls.flatMap((call, index) => tensorsOf(call).map((tensor) => [tensor.base ?? tensor, index] as const)),
  );
