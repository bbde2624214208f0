/**
 * Times kernels with timestamp queries, by a device that measures: whatever encodes commands through `Profiler.gpu` is
 * timed, and nothing else has to know.
 */
import type { Gpu } from "./device.ts";
import { kernelOf } from "./program.ts";
import { type Work, workOf, type WorkSize } from "./work.ts";

/** One dispatch, or one whole pass, that has run. Seconds count from the profile's first timestamp. */
export interface Timed {
  name: string;
  start: number;
  seconds: number;
  work: Work;
  /** Counts the command buffers of the profile. */
  submission: number;
  workgroups?: [x: number, y: number, z?: number];
}

/** What the host did, in seconds from the profile's first submission: encoding, submitting, uploading. */
export interface HostTime {
  name: string;
  start: number;
  seconds: number;
}

export interface Profile {
  kernels: Timed[];
  host: HostTime[];
}

/** Queries in one set; WebGPU's limit. */
const SET_QUERIES = 4096;
const SET_BYTES = 8 * SET_QUERIES;

type Untimed = Omit<Timed, "start" | "seconds" | "submission">;

/** Queries of one encoder, and the buffer that their values come back in. */
interface Recording {
  encoder: GPUCommandEncoder;
  set: GPUQuerySet;
  resolved: GPUBuffer;
  staging: GPUBuffer;
  dispatches: Untimed[];
}

export interface ProfilerOptions {
  /**
   * A compute pass for each `dispatch`, which tells kernels apart and costs a barrier more each; or the `pass`es as
   * they are, which costs nothing.
   */
  each: "dispatch" | "pass";
  /** What the work of the dispatches that are about to be encoded follows from. */
  workSize?: () => WorkSize;
}

/**
 * @example The time of every kernel of a training step
 * ```ts ignore
 * const profiler = new Profiler(gpu, { each: "dispatch", workSize: () => decoder.workSize() });
 * await runner.run(profiler.gpu, step, [pairs], learningRate);
 * const { kernels } = await profiler.collect();
 * ```
 */
export class Profiler {
  /** To be used in the place of the device that is profiled. */
  readonly gpu: Gpu;
  readonly #device: GPUDevice;
  readonly #recordings: Recording[] = [];
  #host: HostTime[] = [];

  /** Whether the adapter has timestamp queries. */
  static isSupported({ device }: Gpu): boolean {
    return device.features.has("timestamp-query");
  }

  constructor(gpu: Gpu, readonly options: ProfilerOptions) {
    this.#device = gpu.device;
    const queue = substitute(gpu.device.queue, {
      submit: (commands: Iterable<GPUCommandBuffer>) =>
        this.time("submit", () => gpu.device.queue.submit(commands as GPUCommandBuffer[])),
      writeBuffer: (...args: Parameters<GPUQueue["writeBuffer"]>) =>
        this.time("upload", () => gpu.device.queue.writeBuffer(...args)),
    });
    const device = substitute(gpu.device, { queue, createCommandEncoder: () => this.#encoder() });
    this.gpu = { ...gpu, device };
  }

  /** Runs `action` as a part of the host's time. */
  time<T>(name: string, action: () => T): T {
    const start = performance.now();
    const done = (value: T) => {
      this.#host.push({ name, start: start / 1000, seconds: (performance.now() - start) / 1000 });
      return value;
    };
    const result = action();
    return result instanceof Promise ? result.then(done) as T : done(result);
  }

  /** Waits for what was submitted, returns its times and begins a new profile. */
  async collect(): Promise<Profile> {
    const kernels: Timed[] = [];
    let first: bigint | undefined;
    const recordings = this.#recordings.splice(0);
    // All at once: each wait for the device sleeps.
    await Promise.all(recordings.map(({ staging }) => staging.mapAsync(0x01 /* READ */)));
    const encoders = [...new Set(recordings.map(({ encoder }) => encoder))];
    for (const { encoder, set, resolved, staging, dispatches } of recordings) {
      const submission = encoders.indexOf(encoder);
      const ticks = new BigUint64Array(staging.getMappedRange());
      dispatches.forEach((dispatch, i) => {
        first ??= ticks[2 * i];
        const [start, end] = [ticks[2 * i], ticks[2 * i + 1]].map((tick) => Number(tick - first!) / 1e9);
        kernels.push({ ...dispatch, start, seconds: end - start, submission });
      });
      set.destroy();
      resolved.destroy();
      staging.destroy();
    }
    const zero = this.#host.find(({ name }) => name === "submit")?.start ?? 0;
    const host = this.#host.map((time) => ({ ...time, start: time.start - zero }));
    this.#host = [];
    return { kernels, host };
  }

  #encoder(): GPUCommandEncoder {
    const encoder = this.#device.createCommandEncoder();
    const recordings: Recording[] = [];
    const nextQueries = (dispatch: Untimed) => {
      let last = recordings.at(-1);
      if (!last || 2 * last.dispatches.length === SET_QUERIES) {
        last = this.#record(encoder);
        recordings.push(last);
      }
      const index = 2 * last.dispatches.length;
      last.dispatches.push(dispatch);
      return {
        querySet: last.set,
        beginningOfPassWriteIndex: index,
        endOfPassWriteIndex: index + 1,
      };
    };
    const begun = performance.now() / 1000;
    return substitute(encoder, {
      beginComputePass: (descriptor?: GPUComputePassDescriptor) => {
        if (this.options.each === "dispatch") return this.#pass(encoder, nextQueries);
        const timestampWrites = nextQueries({ name: descriptor?.label ?? "pass", work: {} });
        return encoder.beginComputePass({ ...descriptor, timestampWrites });
      },
      finish: () => {
        for (const { set, resolved, staging, dispatches } of recordings) {
          encoder.resolveQuerySet(set, 0, 2 * dispatches.length, resolved, 0);
          encoder.copyBufferToBuffer(resolved, 0, staging, 0, SET_BYTES);
        }
        this.#recordings.push(...recordings);
        const commands = encoder.finish();
        this.#host.push({ name: "encode", start: begun, seconds: performance.now() / 1000 - begun });
        return commands;
      },
    });
  }

  #record(encoder: GPUCommandEncoder): Recording {
    const buffer = (usage: number) => this.#device.createBuffer({ size: SET_BYTES, usage });
    return {
      encoder,
      set: this.#device.createQuerySet({ type: "timestamp", count: SET_QUERIES }),
      // QUERY_RESOLVE, COPY_SRC; MAP_READ, COPY_DST
      resolved: buffer(0x200 | 0x04),
      staging: buffer(0x01 | 0x08),
      dispatches: [],
    };
  }

  /** What looks like one pass and is one for each dispatch, which is all that programs do with a pass. */
  #pass(
    encoder: GPUCommandEncoder,
    nextQueries: (dispatch: Untimed) => GPUComputePassTimestampWrites,
  ): GPUComputePassEncoder {
    const size = this.options.workSize?.();
    let pipeline: GPUComputePipeline;
    let bindGroup: GPUBindGroup;
    const pass: Pick<
      GPUComputePassEncoder,
      "setPipeline" | "setBindGroup" | "dispatchWorkgroups" | "end"
    > = {
      setPipeline(next) {
        pipeline = next;
      },
      setBindGroup(_index: number, group: GPUBindGroup | null) {
        bindGroup = group!;
      },
      dispatchWorkgroups(x, y = 1, z = 1) {
        const kernel = kernelOf.get(bindGroup);
        const timestampWrites = nextQueries({
          name: kernel?.label ?? pipeline.label,
          work: kernel && size ? workOf(kernel, size) : {},
          workgroups: z > 1 ? [x, y, z] : [x, y],
        });
        const real = encoder.beginComputePass({ timestampWrites });
        real.setPipeline(pipeline);
        real.setBindGroup(0, bindGroup);
        real.dispatchWorkgroups(x, y, z);
        real.end();
      },
      end() {},
    };
    return pass as GPUComputePassEncoder;
  }
}

/** `object` with some members replaced; the runtime's own methods insist on being called on the object itself. */
function substitute<T extends object>(object: T, members: Record<string, unknown>): T {
  return new Proxy(object, {
    get(target, name) {
      if (typeof name === "string" && name in members) return members[name];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
