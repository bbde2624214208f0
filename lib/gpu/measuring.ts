/** What measuring ways of computing shares: how long one takes, and whether it computes the same as another. */
import type { Gpu } from "./device.ts";
import type { Program } from "./program.ts";

/** Of a sample, at least: its end is waited for, some 11 ms where Deno does it. */
const SECONDS = 0.05;

/** Does the work so many times, and returns the seconds. */
export type Sample = (runs: number) => Promise<number>;

export const sampleOf = ({ device }: Gpu, program: Program, counts: Uint32Array): Sample => async (runs) => {
  const encoder = device.createCommandEncoder();
  for (let run = 0; run < runs; run++) program.encode(encoder, counts);
  const start = performance.now();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return (performance.now() - start) / 1000;
};

/** Seconds of a run, where so many took as long as `sample` says. */
export async function secondsOfRun(
  seconds: Sample,
  { runs, sample }: { runs: number; sample: number },
): Promise<number> {
  while (sample < SECONDS) {
    runs = Math.ceil(runs * Math.min(16, 1.3 * SECONDS / sample));
    sample = await seconds(runs);
  }
  const least = async (runs: number) => Math.min(await seconds(runs), await seconds(runs));
  const [twice, once] = [await least(2 * runs), await least(runs)];
  // Twice as many runs end with the same wait, and the difference is without it; where other work of the machine
  // came between, it says nothing.
  return twice > 1.3 * once ? (twice - once) / runs : twice / (2 * runs);
}

/** Seconds that waiting for a device takes which has nothing to do. */
export async function idleSeconds({ device }: Gpu): Promise<number> {
  device.queue.submit([]);
  await device.queue.onSubmittedWorkDone();
  const start = performance.now();
  device.queue.submit([]);
  await device.queue.onSubmittedWorkDone();
  return (performance.now() - start) / 1000;
}

/**
 * Sums of products of numbers below a half come to some units, and their roundings to 1e-5; a gated unit multiplies
 * two of them.
 */
export function isClose(found: Float32Array, expected: Float32Array, tolerance = 1e-4): boolean {
  // A function for each of millions of elements would take as long as the measurement.
  for (let i = 0; i < found.length; i++) {
    if (!(Math.abs(found[i] - expected[i]) <= tolerance * Math.max(1, Math.abs(expected[i])))) return false;
  }
  return true;
}
