/** Runs of several ranks, all in the process of the test. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Communicator } from "../../lib/distributed/communicator.ts";
import type { TrainOptions } from "../../lib/run/options.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { run, weightsOf } from "../in_process.ts";
import { ranks } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** The golden run by as many ranks; the settings of each may differ. */
async function trainAs(
  size: number,
  out: string,
  overrides: string[],
  options: (own: Communicator) => TrainOptions & { overrides?: string[] } = () => ({}),
) {
  return await Promise.all(
    ranks(size).map((communicator) => {
      const { overrides: own = [], ...others } = options(communicator);
      return run(out, ["--share_gpu", ...overrides, ...own], { communicator, ...others });
    }),
  );
}

const WHOLE = ["--max_steps=-1", "--save_strategy=no"];

for (
  const [size, keys] of [
    [2, []],
    [4, ["--per_device_train_batch_size=1", "--gradient_accumulation_steps=2", "--num_gpus=2"]],
  ] as const
) {
  Deno.test(`a run of ${size} ranks has PyTorch's log and the weights of one alone`, () =>
    withTemporaryFolder(async (folder) => {
      const out = join(folder, "out");
      const start = performance.now();
      const [first, ...others] = await trainAs(size, out, [...WHOLE, ...keys]);
      console.log(performance.now() - start);
      const { log } = await readGolden("untied");
      for (const { history } of [first, ...others]) {
        assert.equal(history.length, log.length);
        for (const key of Object.keys(log[0])) {
          const found = history.map((entry) => entry[key] as number);
          const difference = relativeDifference(found, log.map((entry) => entry[key]));
          assert.ok(difference < 1e-4, `${key}: ${difference}`);
          console.log(key, difference);
        }
      }
      const golden = await readTensors(`tests/golden/llama/untied-golden/model/model.safetensors`);
      for (const [name, values] of await readTensors(join(out, "model.safetensors"))) {
        console.log(name, relativeDifference(values, golden.get(name)!));
      }
    }));
}
