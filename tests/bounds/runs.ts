/** Whole runs in this process, of which `deno task test:bounds` looks at the kernels: their figures others compare. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { usualEngine } from "../../lib/gpu/device.ts";
import { GOLDEN, MODELS } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const RUNS: Record<string, string[]> = {
  ...Object.fromEntries(MODELS.map((model) => [model, [`--model_name_or_path=${GOLDEN}/${model}`]])),
  "checkpointing, activations in bfloat16": ["--gradient_checkpointing", "--activation_dtype=bfloat16"],
};
// What only Dawn computes.
const ON_DAWN: Record<string, string[]> = {
  "float16 matrices, high": ["--float32_matmul_precision=high"],
  "float16 matrices, medium, checkpointing": [
    "--float32_matmul_precision=medium",
    "--gradient_checkpointing",
  ],
};

for (const [name, keys] of Object.entries(usualEngine() === "dawn" ? { ...RUNS, ...ON_DAWN } : RUNS)) {
  Deno.test(`a run: ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      const { history } = await run(join(folder, "out"), ["--max_steps=2", ...keys]);
      assert.ok(history.length > 0);
    }));
}
