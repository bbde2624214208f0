/** Whole training steps through the step runner: forward, backward, gradient norm and AdamW, with the host's part. */
import { pack } from "../lib/batch/pack.ts";
import type { Pair } from "../lib/data/pair.ts";
import { losses } from "../lib/losses/losses.ts";
import type { Loss } from "../lib/losses/loss.ts";
import { sizeOf } from "../lib/batch/size.ts";
import type { LlamaConfig } from "../lib/models/llama.ts";
import { operationsOf } from "./flops.ts";
import { openTrainer, randomPair, smolLM2, TINY_LLAMA } from "./models.ts";
import { tinySequences } from "./peers/task.ts";
import { Suite } from "./suite.ts";

/** Steps in flight: those of one sample are submitted without a wait between them. */
const SLOTS = 256;

const suite = await Suite.open();

async function addStep(name: string, config: LlamaConfig, loss: Loss, pairs: Pair[]): Promise<void> {
  const { gpu, pipelines } = suite;
  const { decoder, runner } = await openTrainer(gpu, pipelines, config, loss, [pairs], {
    slots: SLOTS,
    tiles: suite.tiles,
  });
  const size = sizeOf(pack(pairs));
  let step = 0;
  const work = { flops: operationsOf(decoder.net, size).total, tokens: size.tokens };
  await suite.add(`${name}, ${size.tokens} tokens`, work, async (runs) => {
    const start = performance.now();
    for (let run = 0; run < runs; run++) {
      if (runner.isFull) await runner.collect(gpu);
      await runner.run(gpu, step++, [pairs], 1e-3);
    }
    await gpu.device.queue.onSubmittedWorkDone();
    const seconds = (performance.now() - start) / 1000;
    const results = await runner.collect(gpu);
    if (results.some(({ clip }) => clip.broken)) throw new Error(`${name}: the gradient is not finite`);
    return seconds;
  });
}

await addStep("step, tiny Llama, 4 sequences, sft", TINY_LLAMA, losses.sft, tinySequences());
await addStep(
  "step, SmolLM2 with 2 layers, 2 pairs, simper",
  smolLM2(2),
  losses.simper,
  [1, 2].map((seed) => randomPair({ prefix: 96, chosen: 80, rejected: 80 }, 49152, seed)),
);
