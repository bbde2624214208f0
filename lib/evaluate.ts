import { pack } from "./batch.ts";
import type { Pair } from "./data/tokenize.ts";
import type { Gpu } from "./gpu/device.ts";
import { readTensor } from "./gpu/program.ts";
import { type PairResult, pairResults } from "./metrics.ts";
import type { Decoder } from "./model/decoder.ts";

/** Loss and log-probabilities of every pair, `perBatch` pairs to a packed row, without gradients. */
export async function evaluate(
  gpu: Gpu,
  decoder: Decoder,
  pairs: readonly Pair[],
  perBatch: number,
): Promise<PairResult[]> {
  const all: PairResult[] = [];
  for (let at = 0; at < pairs.length; at += perBatch) {
    const batch = pack(pairs.slice(at, at + perBatch), decoder.config.slidingWindow);
    decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    const results = await readTensor(gpu, decoder.activations.results, 0, batch.pairs * 4);
    all.push(...pairResults(new Float32Array(results), batch));
  }
  return all;
}
