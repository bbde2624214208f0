/**
 * Runs of one model in folders that differ in names, ties and padding: the same figures, and the source's tensors
 * back.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { saveCheckpoint } from "../../lib/safetensors/write.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal, run, stopAt } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const [EMBEDDING, HEAD] = ["model.embed_tokens.weight", "lm_head.weight"];
type Tensors = Map<string, { shape: number[]; values: Float32Array }>;

async function tensorsOf(folder: string): Promise<Tensors> {
  const checkpoint = await openCheckpoint(folder);
  const entries = [...checkpoint.tensors.values()].map(async ({ name, shape }) =>
    [name, { shape, values: await checkpoint.readF32(name) }] as const
  );
  const tensors = new Map(await Promise.all(entries));
  await checkpoint.close();
  return tensors;
}

/** A copy of a golden model whose tensors and keys of config.json are changed. */
async function changed(
  folder: string,
  golden: string,
  keys: Record<string, unknown>,
  change: (tensors: Tensors) => Tensors = (tensors) => tensors,
): Promise<string> {
  const model = join(folder, "model");
  await Deno.mkdir(model);
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    await Deno.copyFile(`${GOLDEN}/${golden}/${name}`, join(model, name));
  }
  const config = JSON.parse(await Deno.readTextFile(`${GOLDEN}/${golden}/config.json`));
  await Deno.writeTextFile(join(model, "config.json"), JSON.stringify({ ...config, ...keys }));
  const tensors = change(await tensorsOf(`${GOLDEN}/${golden}`));
  await saveCheckpoint(
    model,
    [...tensors].map(([name, { shape, values }]) => ({
      name,
      shape,
      dtype: "F32" as const,
      chunks: () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)],
    })),
  );
  return model;
}

const STEPS = ["--max_steps=2", "--save_steps=1"];

/** Trains `model` in two parts; gives the losses, the saved tensors, and what the second part said of the model. */
async function trained(model: string, out: string) {
  const words = [`--model_name_or_path=${model}`, ...STEPS];
  await stopAt(1, out, words);
  const said: string[] = [];
  const { history } = await run(out, words, {
    onLog: (_, message) => message.startsWith(model) && said.push(message),
  });
  return { losses: history.map(({ loss }) => loss), tensors: await tensorsOf(out), said };
}

/** Names of a file in `golden`'s model, and what its run must then have saved under them. */
const CASES: {
  name: string;
  golden: string;
  keys: Record<string, unknown>;
  change?: (tensors: Tensors) => Tensors;
  /** The parameter that a saved tensor is. */
  parameter?: (name: string) => string;
  says?: RegExp;
}[] = [
  {
    name: "a model said to be tied whose head differs trains and saves as the untied one",
    golden: "untied",
    keys: { tie_word_embeddings: true },
    says: /they are not tied/,
  },
  {
    name: "a model under another prefix trains as the one without, and is saved under it",
    golden: "untied",
    keys: {},
    change: (tensors) => new Map([...tensors].map(([name, found]) => [`language_model.${name}`, found])),
    parameter: (name) => name.replace("language_model.", ""),
    says: /read from under "language_model.model."/,
  },
  {
    name: "a tied model whose files have the head too saves both alike",
    golden: "padding",
    keys: {},
    change: (tensors) => new Map([...tensors, [HEAD, tensors.get(EMBEDDING)!]]),
    parameter: (name) => name === HEAD ? EMBEDDING : name,
  },
  {
    name:
      "a tied model whose files have only the head saves only that, and pads as PyTorch does from the end",
    golden: "padding",
    keys: { pad_token_id: 2 - 303, hidden_act: "swish" },
    change: (tensors) =>
      new Map([...tensors].map(([name, found]) => [name === EMBEDDING ? HEAD : name, found])),
    parameter: (name) => name === HEAD ? EMBEDDING : name,
    says: /pad_token_id: -301 counts from the end/,
  },
];

const usual = new Map<string, Awaited<ReturnType<typeof trained>>>();
for (const { name, golden, keys, change, parameter = (name: string) => name, says } of CASES) {
  Deno.test(name, () =>
    withTemporaryFolder(async (folder) => {
      const model = await changed(folder, golden, keys, change);
      if (!usual.has(golden)) usual.set(golden, await trained(`${GOLDEN}/${golden}`, join(folder, "usual")));
      const expected = usual.get(golden)!;
      const found = await trained(model, join(folder, "out"));
      assert.deepEqual(found.losses, expected.losses);
      const source = await tensorsOf(model);
      assert.deepEqual([...found.tensors.keys()], [...source.keys()]);
      for (const [name, { values }] of found.tensors) {
        const there = expected.tensors.get(parameter(name))!.values;
        assert.ok(values.every((value, i) => value === there[i]), name);
        assert.ok(values.some((value, i) => value !== source.get(name)!.values[i]), `${name} did not change`);
      }
      assert.deepEqual(found.said.map((message) => says?.test(message)), says ? [true] : []);
    }));
}

Deno.test("a plan knows that a head which differs is not tied", () =>
  withTemporaryFolder(async (folder) => {
    const plan = async (model: string) => {
      const words = [`--model_name_or_path=${model}`, "--device_memory=1GB"];
      const { status, stdout, stderr } = await task("plan", `${GOLDEN}/run.yaml`, ...words);
      assert.equal(status, 0, stderr);
      return { memory: stdout.split("\n").filter((line) => /weights|moments/.test(line)), stderr };
    };
    const model = await changed(folder, "untied", { tie_word_embeddings: true });
    const [said, untied] = [await plan(model), await plan(`${GOLDEN}/untied`)];
    assert.deepEqual(said.memory, untied.memory);
    assert.ok(said.memory.length > 0);
    assert.match(said.stderr, /warning: .*they are not tied/);
    // Without the weights, config.json is all that there is to know.
    await Deno.remove(join(model, "model.safetensors"));
    assert.notDeepEqual((await plan(model)).memory, untied.memory);
  }));

Deno.test("tensors without a place in the model are not saved, and a run goes on without them", () =>
  withTemporaryFolder(async (folder) => {
    const score = { shape: [2, 48], values: new Float32Array(96) };
    const model = await changed(
      folder,
      "untied",
      {},
      (tensors) => new Map([...tensors, ["score.weight", score]]),
    );
    const { tensors, said } = await trained(model, join(folder, "out"));
    assert.deepEqual([...tensors.keys()], [...(await tensorsOf(`${GOLDEN}/untied`)).keys()]);
    assert.equal(said.length, 1);
    assert.match(said[0], /neither used nor saved again, as in transformers: "score.weight"$/);
  }));

Deno.test("weights that cannot be trained are refused before any data are read", () =>
  withTemporaryFolder(async (folder) => {
    const model = await changed(folder, "untied", {}, (tensors) => {
      tensors.delete("model.norm.weight");
      return tensors;
    });
    const words = [`--model_name_or_path=${model}`, "--dataset_mixer={nowhere.jsonl: 1.0}"];
    assert.match(
      await refusal(run(join(folder, "out"), words), 1),
      /model.norm.weight: missing, expected shape \[48\]/,
    );
  }));

Deno.test("a model from scratch begins with the padding's embedding at 0, as transformers'", () =>
  withTemporaryFolder(async (folder) => {
    // The token of padding is in no pair, and with a learning rate of 0 nothing moves.
    const model = await changed(folder, "untied", { pad_token_id: -1 });
    const words = ["--from_scratch", `--model_name_or_path=${model}`, "--learning_rate=0", "--max_steps=1"];
    await run(join(folder, "out"), words);
    const { values, shape: [rows, columns] } = (await tensorsOf(join(folder, "out"))).get(EMBEDDING)!;
    const isZero = (row: number) =>
      values.subarray(row * columns, (row + 1) * columns).every((value) => value === 0);
    assert.deepEqual([isZero(rows - 1), isZero(rows - 2), isZero(0)], [true, false, false]);
  }));
