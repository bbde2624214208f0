/** Runs whose ranks are stages of a pipeline, all in the process of the test. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Communicator } from "../../lib/distributed/communicator.ts";
import type { TrainOptions } from "../../lib/run/options.ts";
import type { TrainRun } from "../../lib/run/outcome.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { ls, run, weightsOf } from "../in_process.ts";
import { asRanks } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const train = (
  size: number,
  out: string,
  overrides: readonly string[],
  options: (own: Communicator) => TrainOptions = () => ({}),
): Promise<TrainRun[]> =>
  asRanks(size, (own) => run(out, ["--share_gpu", ...overrides], { ...options(own), communicator: own }));

Deno.test("x", () =>
  withTemporaryFolder(async (folder) => {
    const keys = ["--max_steps=3", "--save_steps=2"];
    const [whole] = await train(1, join(folder, "whole"), keys);
    const [first] = await train(2, join(folder, "two"), [...keys, "--pipeline_parallel_size=2"], () => ({onLog: (l, m) => console.log(l, m)}));
    console.log(first.history, whole.history);
    console.log(ls(join(folder, "two")));
    assertEqualBytes(await weightsOf(join(folder, "two")), await weightsOf(join(folder, "whole")));
  }));
