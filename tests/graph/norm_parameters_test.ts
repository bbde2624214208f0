/** The parameters of norms: names and shapes of checkpoints, and what a new model begins with. */
import assert from "node:assert/strict";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { Net } from "../../lib/graph/net.ts";
import { partsOf } from "../../lib/parameters/parameter.ts";
import { Parameters } from "../../lib/parameters/parameters.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";

useGpu();

const SHAPE = { heads: 3, keyValueHeads: 1, headDim: 4 };
const net = new Net();
const table = net.embedding("embed", 5, 20);
net.rmsNorm(table, "rms", 1e-5);
net.rmsNorm(table, "gemma", 1e-5, { onePlus: true });
net.layerNorm(table, "layer", 1e-5, { bias: true });
net.layerNorm(table, "cohere", 1e-5);
net.layerNorm(table, "nemotron", 1e-5, { bias: true, onePlus: true });
const heads = (name: string, weights: "shared" | "each" | "list" | "whole", onePlus?: boolean) =>
  net.headNorm(table, { q: `${name}.q`, k: `${name}.k` }, SHAPE, 1e-5, { weights, onePlus });
heads("shared", "shared");
heads("shared_gemma", "shared", true);
heads("each", "each");
heads("list", "list");
heads("whole", "whole");

/** Shape, and the value that all of it begins with. */
const EXPECTED: Record<string, [shape: number[], initial: number]> = {
  "rms.weight": [[20], 1],
  "gemma.weight": [[20], 0],
  "layer.weight": [[20], 1],
  "layer.bias": [[20], 0],
  "cohere.weight": [[20], 1],
  // transformers' NemotronPreTrainedModel sets it to 1, so that its factor begins with 2.
  "nemotron.weight": [[20], 1],
  "nemotron.bias": [[20], 0],
  "shared.q.weight": [[4], 1],
  "shared.k.weight": [[4], 1],
  "shared_gemma.q.weight": [[4], 0],
  "shared_gemma.k.weight": [[4], 0],
  "each.q.weight": [[3, 4], 1],
  "each.k.weight": [[1, 4], 1],
  "list.q.0.weight": [[4], 1],
  "list.q.1.weight": [[4], 1],
  "list.q.2.weight": [[4], 1],
  "list.k.0.weight": [[4], 1],
  "whole.q.weight": [[12], 1],
  "whole.k.weight": [[4], 1],
};

Deno.test("norms have the names and shapes of their checkpoints, and no weight decay", () => {
  const norms = net.parameters.filter(({ kind }) => kind !== "matrix");
  assert.deepEqual(
    [...partsOf(norms)],
    Object.entries(EXPECTED).map(([name, [shape]]) => [name, shape]),
  );
});

deviceTest("norms begin as transformers begins them", async ({ gpu }) => {
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, net.parameters, 2 ** 20, { training: false });
  await plan.allocate(gpu);
  parameters.initialize(gpu, () => 7, 1);
  for (const [name, [shape, initial]] of Object.entries(EXPECTED)) {
    const count = shape.reduce((product, n) => product * n);
    const found = await parameters.read(gpu, name);
    assert.deepEqual([...found], Array.from({ length: count }, () => initial), name);
  }
  plan.destroy();
});
