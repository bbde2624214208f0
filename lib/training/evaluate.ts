import { pack } from "../batch/pack.ts";
import type { PairStore } from "../data/store.ts";
import type { Gpu } from "../gpu/device.ts";
import { heed } from "../heed.ts";
import type { OnProgress } from "../progress.ts";
import { readTensor } from "../gpu/program.ts";
import { type PairResult, pairResults } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";

/**
 * Loss and log-probabilities of every pair, `perBatch` pairs to a packed row, without gradients; undefined where `signal` came
 * before the last of them.
 */
export async function evaluate(
  gpu: Gpu,
  decoder: Decoder,
  pairs: Pick<PairStore, "length" | "read">,
  perBatch: number,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: OnProgress } = {},
): Promise<PairResult[] | undefined> {
  const all: PairResult[] = [];
  const report = () =>
    onProgress?.({ what: "evaluating", done: all.length, total: pairs.length, unit: "pairs" });
  report();
  for (let at = 0; at < pairs.length; at += perBatch) {
    if (signal && !await heed(signal).then(() => true, () => false)) return;
    const indices = Array.from({ length: Math.min(perBatch, pairs.length - at) }, (_, i) => at + i);
    const batch = pack(await pairs.read(indices), decoder.net.windows);
    decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    const results = await readTensor(gpu, decoder.batch.results, 0, batch.pairs * 4);
    all.push(...pairResults(new Float32Array(results), batch));
    report();
  }
  return all;
}
