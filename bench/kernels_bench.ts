/** Every kernel but the matrix products, alone: attention, norms, the LM head with its loss, the optimizer's update. */
import { Workbench } from "./harness.ts";
import { kernelCases } from "./kernels.ts";
import { Suite } from "./suite.ts";

const suite = await Suite.open();
const bench = new Workbench(suite.gpu, suite.tiles);
const { cases, fill } = kernelCases(bench, {
  tokens: 4096,
  attention: [512, 1024],
  labels: 512,
  parameters: 16 * 2 ** 20,
});
await bench.allocate(suite.gpu);
fill(suite.gpu);
for (const { name, work, calls } of cases) {
  await suite.add(name, work, await bench.sample(suite.pipelines, calls));
}
