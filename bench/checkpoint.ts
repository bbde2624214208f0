/**
 * What a checkpoint costs: seconds that one adds to training, and their share of a run with `save_steps: 10`.
 *
 *   deno run -A bench/checkpoint.ts MODEL [STEPS] [SENTENCES]
 *
 * All pairs are the same, so all steps take the same time. Every second step is followed by a checkpoint; what the
 * interval to the next step takes longer than the others is its cost, the flush to the disk beside that step
 * included.
 */
import { join } from "node:path";
import { readConfig } from "../lib/config/parse.ts";
import { train } from "../lib/run/train.ts";

const [model = "configs/tiny/model", steps = "7", sentences = "4"] = Deno.args;
const folder = await Deno.makeTempDir();
const words = "Rivers run from the hills to the sea, and towns grow where they can be crossed. ".repeat(
  Number(sentences),
);
const pair = {
  chosen: [{ role: "user", content: `Say it again: ${words}` }, { role: "assistant", content: words }],
  rejected: [{ role: "user", content: `Say it again: ${words}` }, {
    role: "assistant",
    content: "No. ".repeat(10 * Number(sentences)),
  }],
};
await Deno.writeTextFile(join(folder, "train.jsonl"), `${JSON.stringify(pair)}\n`.repeat(64));
await Deno.writeTextFile(
  join(folder, "run.yaml"),
  `model_name_or_path: ${model}
dataset_mixer: { ${join(folder, "train.jsonl")}: 1.0 }
max_length: 512
max_prompt_length: 256
per_device_train_batch_size: 2
logging_steps: 1
max_steps: ${steps}
save_steps: 2
save_total_limit: 1
output_dir: ${join(folder, "out")}
`,
);

const { config } = await readConfig(join(folder, "run.yaml"));
const ends: number[] = [];
const saved: number[] = [];
const outcome = await train(config, {
  onStep: () => void ends.push(performance.now()),
  onLog: (_, message) => message.startsWith("saved") && saved.push(performance.now()),
});
const bytes: Record<string, number> = {};
const last = join(config.outputDir, `checkpoint-${steps}`);
for (const { name } of Deno.readDirSync(last)) bytes[name] = (await Deno.stat(join(last, name))).size;
const tokens = outcome.tokens / outcome.steps;
await outcome[Symbol.asyncDispose]();
await Deno.remove(folder, { recursive: true });

const intervals = ends.slice(1).map((end, i) => (end - ends[i]) / 1000);
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const step = mean(intervals.filter((_, i) => i % 2 === 0));
const cost = mean(intervals.filter((_, i) => i % 2 === 1)) - step;
console.log(`bytes: ${Object.values(bytes).reduce((sum, size) => sum + size, 0)}`);
console.log(`a step of ${Math.round(tokens)} tokens: ${step.toFixed(3)} s`);
console.log(
  `a checkpoint adds ${cost.toFixed(3)} s, and is on the disk ${
    mean(saved.slice(0, -1).map((time, i) => (time - ends[2 * i + 1]) / 1000)).toFixed(3)
  } s after its step`,
);
console.log(`with save_steps 10: ${(100 * cost / (10 * step)).toFixed(2)} % of the time of the steps`);
console.log(`intervals: ${intervals.map((seconds) => seconds.toFixed(2)).join(" ")}`);
