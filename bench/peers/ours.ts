/** This project's own figures for the comparison. */
import { losses } from "../../lib/losses/losses.ts";
import { Pipelines, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { measuredTiles, openBenchGpu, Workbench } from "../harness.ts";
import { openTrainer, TINY_LLAMA } from "../models.ts";
import { gemmOperands, LEARNING_RATE, measurePeer, tinySequences } from "./task.ts";

const gpu = await openBenchGpu();
const pipelines = new Pipelines(gpu);
const tiles = await measuredTiles(gpu, pipelines);
const pairs = tinySequences();
const { runner } = await openTrainer(gpu, pipelines, TINY_LLAMA, losses.sft, [pairs], {
  slots: 1,
  tiles,
});

await measurePeer(`ours, ${gpu.name}`, {
  async gemm({ layout, size }, runs) {
    const bench = new Workbench(gpu, tiles);
    const tensors = {
      a: bench.tensor("a", size, size),
      b: bench.tensor("b", size, size),
      c: bench.tensor("c", size, size),
    };
    const calls = bench.products.calls(layout, bench.rows(size), tensors);
    await bench.allocate(gpu);
    const [a, b] = gemmOperands(size);
    writeTensor(gpu, tensors.a, a);
    writeTensor(gpu, tensors.b, b);
    const sample = await bench.sample(pipelines, calls);
    const seconds = await sample(runs);
    const c = new Float32Array(await readTensor(gpu, tensors.c));
    bench.plan.destroy();
    return { seconds, c };
  },
  async step(t) {
    await runner.run(gpu, t - 1, [pairs], LEARNING_RATE);
    const [{ pairs: results }] = await runner.collect(gpu);
    return results.reduce((sum, { loss }) => sum + loss, 0) / results.length;
  },
});
gpu.destroy();
