/**
 * Greedy tokens by transformers.js, for bench/generation.ts:
 *     deno run -A transformers_js.ts FOLDER TASK.json cpu|webgpu
 * FOLDER holds onnx/model.onnx (float32), as `optimum-cli export onnx --task text-generation-with-past` makes it.
 * Prints a line of JSON.
 */
import { basename, dirname, resolve } from "node:path";
import { AutoModelForCausalLM, env, Tensor } from "npm:@huggingface/transformers@4.3.2";
import type { GenerationResult, GenerationTask } from "../generation.ts";

const [folder, file, device] = Deno.args;
const { prompts, tokens, requests }: GenerationTask = JSON.parse(await Deno.readTextFile(file));
env.allowRemoteModels = false;
env.localModelPath = dirname(resolve(folder)) + "/";
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), {
  device: device as "cpu" | "webgpu",
  dtype: "fp32",
});

async function generate(batch: number[][], count: number) {
  const shape = [batch.length, batch[0].length];
  const inputs = new Tensor("int64", BigInt64Array.from(batch.flat(), BigInt), shape);
  const attention_mask = new Tensor("int64", new BigInt64Array(batch.flat().length).fill(1n), shape);
  const start = performance.now();
  const options = { inputs, attention_mask, max_new_tokens: count, min_new_tokens: count, do_sample: false };
  const out = await model.generate(options as Parameters<typeof model.generate>[0]) as Tensor;
  const seconds = (performance.now() - start) / 1000;
  return { seconds, ids: (out.tolist() as bigint[][]).map((row) => row.slice(batch[0].length).map(Number)) };
}

await generate(prompts.slice(0, 1), 2);
const result: GenerationResult = { name: `transformers.js 4.3.2, ${device}`, rates: [] };
for (const count of requests) {
  const batch = prompts.slice(0, count);
  const { seconds: prefill } = await generate(batch, 1);
  const { seconds, ids } = await generate(batch, tokens);
  result.rates.push({ prefill, decode: seconds - prefill, first: ids[0] });
}
console.log(JSON.stringify(result));
Deno.exit(0);
