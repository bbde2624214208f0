/**
 * Runs whose optimizer keeps weights in bfloat16 and moments in bytes go on bit for bit, in files that say what they
 * hold.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint, openSafetensors } from "../../lib/safetensors/read.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { run, stopAt } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const CHECKPOINT = "checkpoint-4";
const FILES = ["model.safetensors", `${CHECKPOINT}/model.safetensors`, `${CHECKPOINT}/optimizer.safetensors`];

/** Runs of float32 and of bfloat16 files; in float16 ones the weights would not be exact. */
const RUNS: [model: string, keys: string[]][] = [
  ["untied", ["--optim=adamw_8bit", "--optim_args=bf16_stochastic_round=True", "--max_grad_norm=0"]],
  ["tied-llama3-bf16-sharded", ["--optim=adamw_bf16"]],
  ["untied", ["--optim=lion_8bit", "--optim_args=bf16_stochastic_round=True", "--max_grad_norm=0"]],
];
for (const [model, keys] of RUNS) {
  Deno.test(`a run that goes on ends with the bytes of an unbroken one: ${model}, ${keys[0].slice(2)}`, () =>
    withTemporaryFolder(async (folder) => {
      const [out, unbroken] = [join(folder, "out"), join(folder, "unbroken")];
      const args = [
        ...keys,
        `--model_name_or_path=${GOLDEN}/${model}`,
        ...["--max_steps=4", "--save_steps=4", "--gradient_accumulation_steps=1", "--prompts=[hello]"],
      ];
      const messages: string[] = [];
      const { answers } = await run(unbroken, args, { onLog: (_, message) => messages.push(message) });
      assert.equal(answers.length, 1);
      const told = messages.filter((message) => message.includes("rounded to the nearest as they are read"));
      assert.equal(told.length, model === "untied" ? 1 : 0, messages.join("\n"));
      await stopAt(2, out, args);
      await run(out, args);
      for (const file of FILES) {
        assertEqualBytes(
          await Deno.readFile(join(out, file)),
          await Deno.readFile(join(unbroken, file)),
          file,
        );
      }
      const optimizer = await openSafetensors(join(out, CHECKPOINT, "optimizer.safetensors"));
      const [weights, source] = [await openCheckpoint(out), await openCheckpoint(`${GOLDEN}/${model}`)];
      const { tensors } = optimizer;
      // What is stored as the files have it, or narrower, is there once: of bfloat16 files all but norms and rows of
      // 62.
      const masters = [...tensors.keys()].filter((name) => name.startsWith("master."));
      assert.deepEqual(masters.filter((name) => !/norm|down_proj/.test(name)), []);
      assert.equal(masters.length > 0, model !== "untied");
      const dtypes = ["exp_avg.", "exp_avg_sq."].map((prefix) =>
        tensors.get(`${prefix}model.embed_tokens.weight`)?.dtype
      );
      const isIn8Bits = keys[0].endsWith("8bit");
      const isLion = keys[0].includes("lion");
      const dtype = isIn8Bits ? "U8" : "BF16";
      assert.deepEqual(dtypes, [dtype, isLion ? undefined : dtype]);
      const absmax = [...tensors.values()].filter(({ name }) => name.startsWith("absmax."));
      const blocks = Math.ceil(303 * 48 / 256);
      assert.deepEqual(
        absmax.map(({ name, shape }) => [name, ...shape]).sort(),
        ["lm_head.weight", "model.embed_tokens.weight"].slice(0, isIn8Bits ? 2 : 0)
          .map((name) => [`absmax.${name}`, blocks, isLion ? 1 : 2]),
      );
      const form = ({ tensors }: typeof weights) =>
        [...tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]).sort();
      assert.deepEqual(form(weights), form(source));
      // In files of float32 too.
      const name = "model.embed_tokens.weight";
      const values = await weights.readF32(name);
      const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
      assert.ok(words.every((word) => (word & 0xffff) === 0));
      for (const { close } of [optimizer, weights, source]) await close();
    }));
}
