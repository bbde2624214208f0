import { type Batch, pack } from "../batch/pack.ts";
import type { Pair } from "../data/pair.ts";
import type { PairStore } from "../data/store.ts";
import { gather } from "../distributed/collectives.ts";
import { alone, type Communicator, shareOf } from "../distributed/communicator.ts";
import type { Gpu } from "../gpu/device.ts";
import { heed } from "../heed.ts";
import type { OnProgress } from "../progress.ts";
import { readTensor } from "../gpu/program.ts";
import { FIGURE_FLOATS, type PairResult, pairResults, RESULT_FLOATS } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { FunctionLoss } from "../losses/loss.ts";
import { lossOnHost } from "../losses/on_host.ts";

/**
 * Loss, log-probabilities and figures of every pair, `perBatch` pairs to a packed row, without gradients; undefined
 * where `signal` came before the last of them. Of several ranks each looks at a part, and all are told what all found.
 *
 * @param options `loss`: in TypeScript, where it is not the decoder's kernel's; `unit`: what progress calls a pair.
 */
export async function evaluate(
  gpu: Gpu,
  decoder: Decoder,
  pairs: Pick<PairStore, "length" | "read">,
  perBatch: number,
  { signal, onProgress, loss, unit = "pairs", communicator = alone }: {
    signal?: AbortSignal;
    onProgress?: OnProgress;
    loss?: FunctionLoss;
    unit?: string;
    communicator?: Communicator;
  } = {},
): Promise<PairResult[] | undefined> {
  const [from, to] = shareOf(Math.ceil(pairs.length / perBatch), communicator)
    .map((batch) => Math.min(batch * perBatch, pairs.length));
  let own: PairResult[] | undefined = [];
  const report = (done: number) => onProgress?.({ what: "evaluating", done, total: to - from, unit });
  report(0);
  for (let at = from; at < to; at += perBatch) {
    if (signal && !await heed(signal).then(() => true, () => false)) {
      own = undefined;
      break;
    }
    const indices = Array.from({ length: Math.min(perBatch, to - at) }, (_, i) => at + i);
    own.push(...await measure(gpu, decoder, await pairs.read(indices), loss));
    report(own.length);
  }
  const all = await gather(communicator, own);
  return all.every((results) => results !== undefined) ? all.flat() : undefined;
}

/** As `evaluate`, of pairs that fit one packed row. */
export async function measure(
  gpu: Gpu,
  decoder: Decoder,
  pairs: readonly Pair[],
  loss?: FunctionLoss,
): Promise<PairResult[]> {
  const batch = pack(pairs, decoder.net.windows);
  decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
  const encoder = gpu.device.createCommandEncoder();
  decoder.encodeForward(encoder);
  gpu.device.queue.submit([encoder.finish()]);
  return await readResults(gpu, decoder, batch, loss && { loss, where: (pair) => pairs[pair].where });
}

/**
 * What the forward pass of `batch`, the last that was submitted, has found of its pairs.
 *
 * @param host the loss, where it is in TypeScript, and the place of a pair for messages.
 */
export async function readResults(
  gpu: Gpu,
  decoder: Decoder,
  batch: Batch,
  host?: { loss: FunctionLoss; where: (pair: number) => string },
): Promise<PairResult[]> {
  // Together, since a wait for both is as long as for one.
  const [results, figures] = (await Promise.all([
    readTensor(gpu, decoder.batch.results, 0, batch.pairs * RESULT_FLOATS),
    readTensor(gpu, decoder.batch.responseFigures, 0, batch.pairs * FIGURE_FLOATS),
  ])).map((bytes) => new Float32Array(bytes));
  if (host) lossOnHost(host.loss, results, batch, host.where);
  return pairResults(results, figures, batch);
}
