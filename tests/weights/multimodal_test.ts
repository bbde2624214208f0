/**
 * A model of texts and pictures: its text part trains as the same model alone, and the rest of its files comes back
 * as it was.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { ParameterTensor } from "../../lib/parameters/saved_tensor.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { type Checkpoint, openCheckpoint } from "../../lib/safetensors/read.ts";
import type { Dtype } from "../../lib/safetensors/dtype.ts";
import { saveCheckpoint, type TensorSource } from "../../lib/safetensors/write.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal, run, stopAt } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const TEXT = `${GOLDEN}/untied`;

/** Whatever a part that is not trained may hold; the first is moved in more than one piece. */
const OTHERS: [name: string, dtype: Dtype, shape: number[], bytes: number][] = [
  ["vision_tower.table", "U8", [2 ** 22 + 3], 2 ** 22 + 3],
  ["vision_tower.layers.0.input_layernorm.weight", "F16", [3], 6],
  ["vision_tower.position_ids", "I64", [1, 5], 40],
  ["vision_tower.steps", "I64", [], 8],
  ["multi_modal_projector.linear_1.weight", "BF16", [2, 3], 12],
  ["multi_modal_projector.scale", "F64", [2], 16],
  ["vision_tower.rotary_emb.inv_freq", "F32", [0], 0],
];

/** How transformers 5 and 4 name the text part, the base class's files, and another model's. */
const NAMES: Record<string, (name: string) => string> = {
  "transformers 5": (name) => name.replace(/^model\./, "model.language_model."),
  "transformers 4": (name) => `language_model.${name}`,
  "the class without a head": (name) => name.replace(/^model\./, "language_model."),
};

/** A golden text model as a part of Llava's or another's. */
async function multimodal(
  folder: string,
  nameOf: (name: string) => string,
  { text = TEXT, model_type = "llava" } = {},
): Promise<string> {
  const model = join(folder, "model");
  await Deno.mkdir(model);
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    await Deno.copyFile(`${text}/${name}`, join(model, name));
  }
  // The classes with pictures do not cap their logits, so text parts that do are refused.
  const text_config = {
    ...JSON.parse(await Deno.readTextFile(`${text}/config.json`)),
    final_logit_softcapping: null,
  };
  const config = { model_type, vision_config: { hidden_size: 3 }, text_config };
  await Deno.writeTextFile(join(model, "config.json"), JSON.stringify(config));
  const source = await openCheckpoint(text);
  const bytesOf = async (name: string) => await source.readBytes(name);
  const parts: TensorSource[] = await Promise.all([...source.tensors.values()].map(
    async ({ name, dtype, shape }) => {
      const bytes = await bytesOf(name);
      return { name: nameOf(name), dtype, shape, chunks: () => [bytes] };
    },
  ));
  await source.close();
  const others = OTHERS.map(([name, dtype, shape, length]): TensorSource => {
    const bytes = new Uint8Array(length).map((_, i) => (i * 7 + length) % 251);
    return { name, dtype, shape, chunks: () => [bytes] };
  });
  // In between, as the files of a repository may have them.
  await saveCheckpoint(model, [...others.slice(0, 2), ...parts, ...others.slice(2)]);
  return model;
}

async function opened<T>(folder: string, body: (checkpoint: Checkpoint) => Promise<T>): Promise<T> {
  const checkpoint = await openCheckpoint(folder);
  try {
    return await body(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

const STEPS = ["--max_steps=2", "--save_steps=1"];

Deno.test("the text part of a multimodal model trains as it does alone, and the rest of the files comes back as it was", () =>
  withTemporaryFolder(async (folder) => {
    const model = await multimodal(folder, NAMES["transformers 4"]);
    const out = join(folder, "out");
    const words = [`--model_name_or_path=${model}`, ...STEPS];
    // With a checkpoint on the way, which the run goes on from.
    await stopAt(1, out, words);
    const found = await run(out, words);
    const alone = join(folder, "alone");
    const expected = await run(alone, [`--model_name_or_path=${TEXT}`, ...STEPS]);
    const losses = (outcome: typeof found) => outcome.history.map(({ loss }) => loss);
    assert.deepEqual(losses(found), losses(expected));

    await opened(model, (source) =>
      opened(alone, (alone) =>
        opened(out, async (result) => {
          const described = ({ tensors }: Checkpoint) =>
            [...tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }));
          assert.deepEqual(described(result), described(source));
          for (const name of source.tensors.keys()) {
            const isText = name.startsWith("language_model.");
            const there = isText
              ? alone.readBytes(name.replace("language_model.", ""))
              : source.readBytes(name);
            assertEqualBytes(await result.readBytes(name), await there);
          }
        })));
    assert.equal(
      await Deno.readTextFile(join(out, "config.json")),
      await Deno.readTextFile(join(model, "config.json")),
    );
  }));

for (const [name, nameOf] of Object.entries(NAMES)) {
  Deno.test(`a multimodal model's text part is found under the names of ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      const said: string[] = [];
      const model = await multimodal(folder, nameOf);
      const weights = await openModel(model, (message) => said.push(message));
      await weights.close();
      assert.equal(weights.model.partOf, "llava");
      const trained = weights.saved.filter((tensor): tensor is ParameterTensor => "parameter" in tensor);
      assert.deepEqual(trained.map(({ name }) => name), trained.map(({ parameter }) => nameOf(parameter)));
      assert.equal(weights.saved.length - trained.length, OTHERS.length);
      assert.equal(said.length, 1);
      assert.match(said[0], /the text part of llava is trained; 7 other tensors .* saved again as they are/);
    }));
}

Deno.test("Gemma 3's text part is that model alone, whose head is the embedding", () =>
  withTemporaryFolder(async (folder) => {
    const text = "tests/golden/models/gemma3_text";
    const model = await multimodal(folder, NAMES["transformers 4"], { text, model_type: "gemma3" });
    const [weights, alone] = await Promise.all([openModel(model), openModel(text)]);
    await Promise.all([weights.close(), alone.close()]);
    assert.deepEqual(weights.model, { ...alone.model, finalLogitSoftcapping: undefined, partOf: "gemma3" });
    assert.ok(weights.model.tieWordEmbeddings);
    assert.deepEqual([...weights.tensors.keys()].sort(), [...alone.tensors.keys()].sort());
  }));

Deno.test("a multimodal model that began anew would lack its other parts", () =>
  withTemporaryFolder(async (folder) => {
    const model = await multimodal(folder, NAMES["transformers 5"]);
    const words = [`--model_name_or_path=${model}`, "--from_scratch=true", ...STEPS];
    const message = await refusal(run(join(folder, "out"), words), 1);
    assert.match(message, /config.json: from_scratch makes weights of a text model alone/);
  }));
