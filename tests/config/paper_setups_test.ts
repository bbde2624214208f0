/**
 * The four setups of the paper as a user runs them, by their published names, against a loopback Hub that serves small
 * models and sets of the published form. tests/golden/setups/make.py made the sets and PyTorch's figures.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { type Finished, taskWith } from "../command.ts";
import { GOLDEN, relativeDifference } from "../golden_run.ts";
import { file, hubTest, type World } from "../hub/fixtures.ts";
import type { HubFile, HubRepo } from "../hub/server.ts";

const SETS = "tests/golden/setups";
const TOKEN = "hf_aTokenForTheGatedModels";

interface Setup {
  /** The published model, and the folder of tests/golden/llama that stands for it. */
  model: string;
  stands: string;
  /** The published set; its files are in the folder of its name. */
  set: string;
  splits: [train: string, test: string];
}

// tests/golden/setups/make.py has the same table. The window of `sliding-window` is 20 tokens, shorter than every row.
const SETUPS: Record<string, Setup> = {
  "mistral-7b-base": {
    model: "alignment-handbook/zephyr-7b-sft-full",
    stands: "sliding-window",
    set: "HuggingFaceH4/ultrafeedback_binarized",
    splits: ["train_prefs", "test_prefs"],
  },
  "mistral-7b-instruct": {
    model: "mistralai/Mistral-7B-Instruct-v0.2",
    stands: "sliding-window",
    set: "princeton-nlp/mistral-instruct-ultrafeedback",
    splits: ["train", "test"],
  },
  "llama-3-8b-base": {
    model: "princeton-nlp/Llama-3-Base-8B-SFT",
    stands: "untied",
    set: "HuggingFaceH4/ultrafeedback_binarized",
    splits: ["train_prefs", "test_prefs"],
  },
  "llama-3-8b-instruct": {
    model: "meta-llama/Meta-Llama-3-8B-Instruct",
    stands: "tied-llama3-bf16-sharded",
    set: "princeton-nlp/llama3-ultrafeedback",
    splits: ["train", "test"],
  },
};

/** What a run says of the keys that do nothing here. */
const IGNORED = [
  ..."attn_implementation preprocessing_num_workers bf16 beta gamma_beta_ratio".split(" "),
  ..."gradient_checkpointing_kwargs report_to".split(" "),
];

async function files(folder: string, isLarge: (path: string) => boolean): Promise<HubFile[]> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return await Promise.all(names.map(async (path) => ({
    path,
    bytes: await Deno.readFile(join(folder, path)),
    lfs: isLarge(path),
  })));
}

/** The model and the set of a setup as the Hub has them: with files beside that a run has no need of. */
async function reposOf({ model, stands, set }: Setup): Promise<HubRepo[]> {
  const data = await files(join(SETS, set.split("/")[1], "data"), () => true);
  const unneeded = (path: string) => file(path, 5000, true);
  return [
    {
      type: "model",
      name: model,
      files: [
        ...await files(join(GOLDEN, stands), (path) => path.endsWith(".safetensors")),
        unneeded("pytorch_model-00001-of-00001.bin"),
        file("README.md", "# A model"),
      ],
    },
    {
      type: "dataset",
      name: set,
      files: [
        ...data.map((one) => ({ ...one, path: `data/${one.path}` })),
        unneeded("data/train_sft-00000-of-00001.parquet"),
        file("README.md", "# A set"),
      ],
    },
  ];
}

/** `deno task train SETUP-simper.yaml`, its output in the folder `out` of the test's. */
function train(
  { hub, folder }: World,
  setup: string,
  out: string,
  ...overrides: string[]
): Promise<Finished> {
  const environment = {
    HF_ENDPOINT: hub.endpoint,
    HF_HOME: folder,
    HF_HUB_CACHE: "",
    HF_TOKEN: TOKEN,
    HF_HUB_OFFLINE: "",
    SIMPER_CACHE: join(folder, "simper"),
  };
  const args = [`${setup}-simper.yaml`, `--output_dir=${join(folder, out)}`, ...overrides];
  return taskWith(environment, "train", ...args);
}

/** Name, dtype and shape of every tensor of a model. */
async function formOf(folder: string): Promise<unknown[][]> {
  const checkpoint = await openCheckpoint(folder);
  const form = [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]).sort();
  await checkpoint.close();
  return form;
}

const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(path));

for (const [name, setup] of Object.entries(SETUPS)) {
  const { model, stands, set, splits } = setup;
  const options = () => ({ token: TOKEN });

  hubTest(`${name}-simper.yaml runs from the Hub with no edit but --max_steps`, options, async (world) => {
    const { hub, folder } = world;
    hub.repos.push(...await reposOf(setup));
    const { status, stderr } = await train(world, name, "out", "--max_steps=2");
    assert.equal(status, 0, stderr);
    for (const key of IGNORED) assert.match(stderr, new RegExp(`^${key}: ignored: `, "m"));
    assert.equal(/chat template is replaced/.test(stderr), /mistral/i.test(model), stderr);
    assert.match(stderr, new RegExp(`^train: 12 pairs, .*\n(.*\n)*test: 3 pairs, `, "m"));
    assert.match(stderr, /^warning: train: 1 of 12 pairs were longer than max_length and truncated$/m);

    const served = hub.seen.filter(({ path }) => path.includes("/resolve/")).map(({ path }) => path);
    for (const split of splits) {
      assert.ok(served.some((path) => path.includes(`${set}/resolve/`) && path.includes(`data/${split}-0`)));
    }
    assert.deepEqual(served.filter((path) => /\.bin$|train_sft/.test(path)), []);

    const out = join(folder, "out");
    assert.deepEqual(await formOf(out), await formOf(join(GOLDEN, stands)));
    const state = await readJson(join(out, "trainer_state.json"));
    assert.deepEqual([state.global_step, state.max_steps, state.epoch], [2, 2, 2]);
    const results = await readJson(join(out, "all_results.json"));
    for (
      const key of ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"]
    ) {
      assert.ok(Number.isFinite(results[`eval_${key}`]), `eval_${key}`);
    }
    assert.ok(Number.isFinite(results.train_loss));
    const card = await Deno.readTextFile(join(out, "README.md"));
    assert.match(card, new RegExp(`^base_model: ${model}$`, "m"));
  });

  hubTest(`${name}-simper.yaml has PyTorch's loss, gradient norm and rewards`, options, async (world) => {
    const { hub, folder } = world;
    hub.repos.push(...await reposOf(setup));
    const { status, stderr } = await train(
      world,
      name,
      "out",
      "--max_steps=3",
      "--num_gpus=1",
      "--gradient_accumulation_steps=2",
      "--train_sampling_strategy=sequential",
      "--logging_steps=1",
      "--do_eval=false",
      "--evaluation_strategy=no",
      "--log_level=error",
    );
    assert.deepEqual([status, stderr], [0, ""]);
    const golden: Record<string, number>[] = await readJson(`${SETS}/${name}.json`);
    const { log_history: history } = await readJson(join(folder, "out", "trainer_state.json"));
    assert.equal(history.length, golden.length);
    for (const key of Object.keys(golden[0])) {
      const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key]);
      const difference = relativeDifference(series(history), series(golden));
      assert.ok(difference < 1e-4, `${key}: ${difference}`);
    }
  });
}
