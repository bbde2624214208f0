import assert from "node:assert/strict";
import { join } from "node:path";
import {
  chatTemplateOf,
  forcesMistralTemplate,
  MISTRAL_CHAT_TEMPLATE,
} from "../../lib/data/mistral_template.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import type { Message } from "../../lib/tokenizer/chat_template.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const rendered: { messages: Message[]; text: string }[] = JSON.parse(
  await Deno.readTextFile("tests/golden/mistral/rendered.json"),
);

Deno.test("the Mistral template renders as the published one does in Python", async () => {
  const tokenizer = await loadTokenizer("tests/golden/data/tokenizer", {
    chatTemplate: MISTRAL_CHAT_TEMPLATE,
  });
  assert.ok(rendered.length > 10);
  for (const { messages, text } of rendered) {
    assert.equal(tokenizer.applyChatTemplate(messages), text);
  }
  assert.ok(
    MISTRAL_CHAT_TEMPLATE.includes("system"),
    "rows without a system message get an empty one by this word",
  );
});

Deno.test("the template is forced where the model's name has mistral in it, unless the run file has its own", () => {
  const forced = (modelNameOrPath: string, chatTemplate?: string) =>
    forcesMistralTemplate({ modelNameOrPath, chatTemplate });
  assert.ok(forced("mistralai/Mistral-7B-Instruct-v0.2"));
  assert.ok(forced("models/mine/MISTRAL-7b/"));
  assert.ok(!forced("models/MISTRAL/mine"));
  assert.ok(!forced("mistralai/Other-7B@mistral"));
  assert.ok(!forced("alignment-handbook/zephyr-7b-sft-full"));
  assert.ok(!forced("mistralai/Mistral-7B-Instruct-v0.2", "{{ messages }}"));
  const own = { modelNameOrPath: "mistralai/Mistral-7B-Instruct-v0.2", chatTemplate: "own" };
  assert.equal(chatTemplateOf(own), "own");
  assert.equal(chatTemplateOf({ ...own, chatTemplate: undefined }), MISTRAL_CHAT_TEMPLATE);
  assert.equal(chatTemplateOf({ modelNameOrPath: "llama", chatTemplate: undefined }), undefined);
});

Deno.test("a run of a model named Mistral says that its template is replaced, and trains on other tokens", () =>
  withTemporaryFolder(async (folder) => {
    const losses: number[] = [];
    for (const name of ["plain", "Mistral-tiny"]) {
      const model = join(folder, name);
      await Deno.mkdir(model);
      for (const { name: file } of Deno.readDirSync(`${GOLDEN}/sliding-window`)) {
        await Deno.copyFile(`${GOLDEN}/sliding-window/${file}`, join(model, file));
      }
      const out = join(folder, `${name}-out`);
      const { status, stderr } = await task(
        "train",
        `${GOLDEN}/run.yaml`,
        `--model_name_or_path=${model}`,
        `--output_dir=${out}`,
        "--max_steps=1",
      );
      assert.equal(status, 0, stderr);
      assert.equal(/chat template is replaced/.test(stderr), name !== "plain", stderr);
      for (const shown of ["data", "plan"]) {
        const found = await task(
          shown,
          `${GOLDEN}/run.yaml`,
          `--model_name_or_path=${model}`,
          "--device_memory=1GB",
        );
        assert.equal(found.status, 0, found.stderr);
        assert.equal(/chat template is replaced/.test(found.stderr), name !== "plain", found.stderr);
      }
      losses.push(JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json"))).log_history[0].loss);
    }
    assert.notEqual(losses[0], losses[1]);
  }));
