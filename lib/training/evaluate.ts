import { type Batch, pack } from "../batch/pack.ts";
import type { Pair } from "../data/pair.ts";
import type { PairStore } from "../data/store.ts";
import { gather } from "../distributed/collectives.ts";
import { shareOf } from "../distributed/communicator.ts";
import { ALONE, type Grid } from "../distributed/grid.ts";
import { StageLine } from "../distributed/pipeline.ts";
import type { Gpu } from "../gpu/device.ts";
import { heed } from "../progress/heed.ts";
import type { OnProgress } from "../progress/progress.ts";
import { readTensor, writeTensor } from "../gpu/program.ts";
import { FIGURE_FLOATS, type PairResult, pairResults, RESULT_FLOATS } from "./metrics.ts";
import type { Decoder } from "../graph/decoder.ts";
import type { FunctionLoss } from "../losses/loss.ts";
import { lossOnHost } from "../losses/on_host.ts";

/**
 * Loss, log-probabilities and figures of every pair, `perBatch` pairs to a packed row, without gradients; undefined
 * where `signal` came before the last of them. Of several ranks each looks at a part, or a stage of a pipeline makes
 * its part of every pass, and all are told what was found; of a pipeline's signals the first stage's counts.
 *
 * @param options `loss`: in TypeScript, where it is not the decoder's kernel's; `unit`: what progress calls a pair.
 */
export async function evaluate(
  gpu: Gpu,
  decoder: Decoder,
  pairs: Pick<PairStore, "length" | "read">,
  perBatch: number,
  { signal, onProgress, loss, unit = "pairs", ranks: { data, pipeline } = ALONE }: {
    signal?: AbortSignal;
    onProgress?: OnProgress;
    loss?: FunctionLoss;
    unit?: string;
    ranks?: Grid;
  } = {},
): Promise<PairResult[] | undefined> {
  const [from, to] = shareOf(Math.ceil(pairs.length / perBatch), data)
    .map((batch) => Math.min(batch * perBatch, pairs.length));
  let own: PairResult[] | undefined = [];
  const report = (done: number) => onProgress?.({ what: "evaluating", done, total: to - from, unit });
  const line = new StageLine(gpu, pipeline);
  const { received, sent } = decoder.boundaries;
  report(0);
  for (let at = from; at < to; at += perBatch) {
    const stops = async () => signal && !await heed(signal).then(() => true, () => false);
    const input = received && await line.receive("before");
    if (input ? input.length === 0 : await stops()) {
      own = undefined;
      if (sent) line.end("next");
      break;
    }
    const indices = Array.from({ length: Math.min(perBatch, to - at) }, (_, i) => at + i);
    const read = await pairs.read(indices);
    const batch = forward(gpu, decoder, read, input);
    if (!sent) {
      const host = loss && { loss, where: (pair: number) => read[pair].where };
      own.push(...await readResults(gpu, decoder, batch, host));
    } else {
      // No more than one waits for the next stage.
      await line.sent();
      await line.send(sent, batch.ids.length, "next");
    }
    report(Math.min(at + perBatch, to) - from);
  }
  await line.sent();
  const found = (await gather(pipeline, own)).at(-1);
  const all = await gather(data, found);
  return all.every((results) => results !== undefined) ? all.flat() : undefined;
}

/**
 * Submits the forward pass of pairs.
 * @param input what the stage before has made of them.
 */
function forward(gpu: Gpu, decoder: Decoder, pairs: readonly Pair[], input?: Float32Array): Batch {
  const batch = pack(pairs, decoder.net.windows);
  decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
  if (input) writeTensor(gpu, decoder.boundaries.received!, input);
  const encoder = gpu.device.createCommandEncoder();
  decoder.encodeForward(encoder);
  gpu.device.queue.submit([encoder.finish()]);
  return batch;
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
