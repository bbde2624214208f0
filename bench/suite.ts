/**
 * Registers measurements with `deno bench` and, when all are done, prints what its table cannot: rates and ceilings.
 */
import type { Gpu } from "../lib/gpu/device.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import type { ProductTiles } from "../lib/gpu/tuning.ts";
import { percent } from "../lib/report/profile.ts";
import {
  calibrate,
  type Ceilings,
  measureCeilings,
  measuredTiles,
  median,
  openBenchGpu,
  type Sample,
  SAMPLES,
} from "./harness.ts";

/** What one run does: operations where arithmetic bounds it, bytes moved where memory does; tokens of a step. */
export interface Work {
  flops?: number;
  bytes?: number;
  tokens?: number;
}

/** The benchmarks of one file: all their buffers live until the last is done. */
export class Suite {
  readonly #figures: { name: string; work: Work; seconds: number[] }[] = [];

  private constructor(
    readonly gpu: Gpu,
    readonly pipelines: Pipelines,
    readonly ceilings: Ceilings,
    readonly tiles: ProductTiles,
  ) {}

  /** Opens the adapter, and measures its ceilings and how products are computed best. */
  static async open(): Promise<Suite> {
    const gpu = await openBenchGpu();
    const pipelines = new Pipelines(gpu);
    const ceilings = await measureCeilings(gpu, pipelines);
    const suite = new Suite(gpu, pipelines, ceilings, await measuredTiles(gpu, pipelines));
    addEventListener("unload", () => {
      suite.#print();
      gpu.destroy();
    });
    return suite;
  }

  /** Finds how many runs make a sample, and registers a benchmark whose iterations are one sample each. */
  async add(name: string, work: Work, sample: Sample): Promise<void> {
    const runs = await calibrate(sample);
    const seconds: number[] = [];
    this.#figures.push({ name, work, seconds });
    Deno.bench({
      name: runs === 1 ? name : `${name}, ${runs} runs`,
      n: SAMPLES,
      warmup: 0,
      fn: async () => void seconds.push(await sample(runs) / runs),
    });
  }

  #print(): void {
    const { flops, copyBytes, kernelBytes } = this.ceilings;
    console.log(
      `\n${this.gpu.name}; measured ceilings: multiply-add ${giga(flops)} GFLOP/s, copy kernel ` +
        `${giga(kernelBytes)} GB/s, copyBufferToBuffer ${giga(copyBytes)} GB/s (read + written)`,
    );
    const width = Math.max(...this.#figures.map(({ name }) => name.length));
    for (const { name, work, seconds } of this.#figures) {
      if (seconds.length) {
        console.log(`${name.padEnd(width)} ${figure(work, median(seconds), this.ceilings)}`);
      }
    }
  }
}

const giga = (rate: number) => (rate / 1e9).toFixed(1);

const part = (fraction: number) => percent(fraction).padStart(7);

function figure({ flops, bytes, tokens }: Work, seconds: number, ceilings: Ceilings): string {
  const parts = [`${(1000 * seconds).toFixed(3).padStart(10)} ms`];
  if (flops) {
    parts.push(
      `${giga(flops / seconds).padStart(8)} GFLOP/s ${
        part(flops / seconds / ceilings.flops)
      } of multiply-add`,
    );
  }
  if (bytes) {
    parts.push(
      `${giga(bytes / seconds).padStart(8)} GB/s    ${
        part(bytes / seconds / Math.max(ceilings.copyBytes, ceilings.kernelBytes))
      } of the faster copy`,
    );
  }
  if (tokens) parts.push(`${(tokens / seconds).toFixed(0)} tokens/s`);
  return parts.join("  ");
}
