/** A run's pack: what is in it, and that a difference is found wherever there is one. */
import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { parseConfig } from "../../lib/config/parse.ts";
import type { LogEntry } from "../../lib/training/log_entry.ts";
import {
  compareLogs,
  compareRun,
  compareStart,
  compareWeights,
  type Finding,
  type Here,
} from "../../lib/reproduction/check.ts";
import { type Pack, readPack, writePack } from "../../lib/reproduction/pack.ts";
import { usualTuning } from "../../lib/gpu/tuning.ts";
import { task, taskWith } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const DATA = resolve(`${GOLDEN}/pairs.jsonl`);
const MODEL = resolve(`${GOLDEN}/untied`);
/** Where the pack's names are here. */
const PLACES = [`--model_name_or_path=${MODEL}`, `--dataset_mixer={${JSON.stringify(DATA)}: 1.0}`];

const different = (findings: readonly Finding[]) => findings.filter(({ isEqual }) => !isEqual);

Deno.test("a run's pack has no path of its machine, the same run is equal, and others differ in the table", () =>
  withTemporaryFolder(async (folder) => {
    const run = join(folder, "run");
    const trained = await task(
      "train",
      `${GOLDEN}/run.yaml`,
      ...PLACES,
      `--output_dir=${run}`,
      "--max_steps=2",
      "--log_level=error",
      "--hub_token=hf_secret",
    );
    assert.equal(trained.status, 0, trained.stderr);
    const packed = await task("export-run", run);
    assert.deepEqual([packed.status, packed.stdout], [0, `${run}-pack\n`], packed.stderr);
    const pack = `${run}-pack`;
    for (const { name } of Deno.readDirSync(pack)) {
      const text = await Deno.readTextFile(join(pack, name));
      for (const hidden of [folder, resolve("."), "hf_secret"]) {
        assert.ok(!text.includes(hidden), `${name}: ${hidden}`);
      }
    }
    const yaml = await Deno.readTextFile(join(pack, "config.yaml"));
    assert.match(yaml, /^model_name_or_path: untied$/m);
    assert.match(yaml, /^adam_beta2: 0.999$/m);

    const check = (...words: string[]) => task("check-run", pack, ...PLACES, "--log_level=error", ...words);
    const same = await check(`--output_dir=${run}`, "--json");
    assert.equal(same.status, 0, same.stderr);
    const { isEqual, findings } = JSON.parse(same.stdout) as { isEqual: boolean; findings: Finding[] };
    assert.deepEqual([isEqual, different(findings)], [true, []]);
    const compared = findings.map(({ what }) => what);
    for (
      const what of [
        "adapter",
        "tiles",
        "model: model.safetensors",
        "tokenizer",
        "chat template",
        "data: pairs.jsonl",
        "tokens and labels 3",
        "log",
        "weights",
      ]
    ) {
      assert.ok(compared.includes(what), what);
    }

    // What was a folder or a file of another machine.
    const nowhere = await task("check-run", pack, "--log_level=error");
    assert.deepEqual([nowhere.status, nowhere.stdout], [2, ""], nowhere.stderr);
    assert.match(
      nowhere.stderr,
      /of the model the pack has the name only \(untied\): .* --model_name_or_path=FOLDER$/m,
    );
    assert.match(nowhere.stderr, /\(pairs\.jsonl\): .* --dataset_mixer='\{"FOLDER\/pairs\.jsonl":1\}'$/m);

    // Another adapter's choice of kernels, which this one can take.
    const file = join(pack, "pack.json");
    const content = JSON.parse(await Deno.readTextFile(file));
    const tile = content.kernels.buffer["nt wide"] === "storage 8x8" ? "storage 16x8" : "storage 8x8";
    content.kernels.buffer["nt wide"] = tile;
    await Deno.writeTextFile(file, JSON.stringify(content));
    const cache = { SIMPER_CACHE: join(folder, "cache") };
    const taken = await taskWith(cache, "check-run", pack, ...PLACES, "--log_level=error", "--take_tiles");
    assert.equal(taken.status, 0, taken.stderr);

    // Another run: its log differs from the second step on, and its weights do.
    const other = join(folder, "other");
    await Deno.mkdir(other);
    await Deno.copyFile(`${GOLDEN}/untied/model.safetensors`, join(other, "model.safetensors"));
    const lines = (await Deno.readTextFile(join(run, "metrics.jsonl"))).split("\n");
    await Deno.writeTextFile(
      join(other, "metrics.jsonl"),
      [lines[0], lines[1].replace(/"loss":-?0\./, '"loss":0.9')].join("\n"),
    );
    const facts = JSON.parse(await Deno.readTextFile(join(run, "report.json")));
    facts.provenance.run.config.learning_rate *= 2;
    await Deno.writeTextFile(join(other, "report.json"), JSON.stringify(facts));
    const data = join(folder, "pairs.jsonl");
    await Deno.writeTextFile(data, (await Deno.readTextFile(DATA)).replace(/"(chosen|rejected)"/, '"$1" '));
    const differs = await task(
      "check-run",
      pack,
      PLACES[0],
      `--dataset_mixer={${JSON.stringify(data)}: 1.0}`,
      "--log_level=error",
      `--output_dir=${other}`,
      "--seed=7",
    );
    assert.equal(differs.status, 1, differs.stderr);
    for (
      const line of [
        /^DIFFERS {2}seed +42 +7$/m,
        /^DIFFERS {2}data: pairs.jsonl +[0-9a-f]{12} +[0-9a-f]{12}$/m,
        /^DIFFERS {2}the run's learning_rate +\S+ +\S+$/m,
        /^DIFFERS {2}tiles: nt wide +storage /m,
        /^equal +tokens and labels 1 /m,
        /^DIFFERS {2}log: first difference, step 2 +loss -?0\.\d+ +loss 0\.9/m,
        /^DIFFERS {2}weights +\d+ tensors +\d+ of them differ$/m,
      ]
    ) {
      assert.match(differs.stdout, line);
    }
  }));

const packOf = (): Pack => ({
  format: 1,
  version: "0.1.0",
  engine: "Deno/2.9.6",
  platform: "linux x64",
  device: "a GPU",
  kernels: usualTuning("software"),
  run: {
    config: { seed: 42 },
    model: { "config.json": "aa" },
    tokenizer: "t",
    template: "c",
    rules: 2,
    train: ["d"],
  },
  revisions: { model: null, adapter: null, reference: null, data: [null] },
  steps: 4,
  trainPairs: 8,
  pairs: [{
    index: 3,
    responses: [{ tokens: 4, promptLength: 2, ids: [1, 2, 3, 4], labels: [3, 4], sha256: "x" }],
  }],
  dataFiles: ["a.jsonl"],
  results: {},
  weightsStep: 4,
  tensors: {},
});

Deno.test("each thing that the weights follow from is compared", () => {
  const changes: [string, (here: Here) => void][] = [
    ["simper", (here) => here.version = "0.2.0"],
    ["engine", (here) => here.engine = "Deno/3.0.0"],
    ["adapter", (here) => delete here.device],
    [
      "tiles: nt wide",
      (here) => (here.kernels!.buffer as Record<string, string>)["nt wide"] = "storage 16x8",
    ],
    ["tiles: fuses", (here) => here.kernels!.fuses = true],
    ["seed", (here) => here.run.config.seed = 1],
    ["model: config.json", (here) => here.run.model["config.json"] = "bb"],
    ["model: model.safetensors", (here) => here.run.model["model.safetensors"] = "cc"],
    ["reference: config.json", (here) => here.run.reference = { "config.json": "aa" }],
    ["tokenizer", (here) => here.run.tokenizer = "u"],
    ["chat template", (here) => here.run.template = "d"],
    ["chat template's date", (here) => here.run.date = "2024-07-26"],
    ["rules of tokens", (here) => here.run.rules = 3],
    ["data: a.jsonl", (here) => here.run.train = ["e"]],
    ["loss", (here) => here.run.loss = "l"],
    ["training pairs", (here) => here.trainPairs = 9],
    ["steps", (here) => here.steps = 5],
    ["tokens and labels 1", (here) => here.pairs[0].responses[0].labels = [3, 5]],
  ];
  assert.deepEqual(different(compareStart(packOf(), structuredClone(packOf()))), []);
  const kernels = usualTuning("software");
  const otherForm = { ...kernels, textured: kernels.textured.toReversed(), splits: false, keeps: false };
  assert.deepEqual(different(compareStart({ ...packOf(), kernels: otherForm }, packOf())), []);
  for (const [what, change] of changes) {
    const here: Here = structuredClone(packOf());
    change(here);
    const found = different(compareStart(packOf(), here));
    assert.deepEqual(found.map(({ what, decides }) => [what, decides]), [[what, true]]);
  }
  const division = { ranks: 2, stages: 1, zeroStage: 0 };
  const ofTwo = different(compareStart({ ...packOf(), division }, packOf()));
  assert.deepEqual(ofTwo.map(({ what, pack, decides }) => [what, pack, decides]), [[
    "ranks",
    "2 ranks",
    false,
  ]]);
  assert.deepEqual(
    different(compareRun({ ...packOf(), division }, packOf())).map((
      { what, here, decides },
    ) => [what, here, decides]),
    [["the run's ranks", "1 rank", true]],
  );
  const elsewhere = { ...packOf(), platform: "darwin arm64" };
  assert.deepEqual(different(compareStart(packOf(), elsewhere)).map(({ decides }) => decides), [false]);
});

Deno.test("logs are equal in bits, or it is said where and how far they are apart", () => {
  const log: LogEntry[] = [{ step: 1, epoch: 1, loss: 2 }, { step: 1, epoch: 1, eval_loss: 3 }, {
    step: 2,
    epoch: 2,
    loss: 1,
  }];
  assert.deepEqual(different(compareLogs(log, structuredClone(log))), []);
  const other = structuredClone(log);
  other[1].eval_loss = 3.0000003;
  other[2].loss = 1.1;
  const [first, largest] = compareLogs(log, other);
  assert.deepEqual([first.what, first.pack, first.here], [
    "log: first difference, step 1",
    "eval_loss 3",
    "eval_loss 3.0000003",
  ]);
  assert.deepEqual([largest.pack, largest.here], ["loss, step 2", "1.0e-1 of its value"]);
  assert.deepEqual(compareLogs(log, log.slice(0, 2)).map(({ pack, here }) => [pack, here]), [[
    "an entry",
    "nothing",
  ]]);
});

Deno.test("weights are equal in bits, or it is said which are not and how far", () => {
  const tensor = (sha256: string, sample: number[]) => ({ dtype: "F32", shape: [2], sha256, sample });
  const weights = { a: tensor("1", [1, -4]), b: tensor("2", [1, 1]) };
  assert.deepEqual(different(compareWeights(weights, structuredClone(weights))), []);
  const [count, largest] = compareWeights(weights, { ...weights, a: tensor("3", [1, -4.4]) });
  assert.equal(count.here, "1 of them differ");
  assert.match(`${largest.pack} ${largest.here}`, /^a 1\.0e-1 of the largest/);
  const elsewhere = compareWeights(weights, { ...weights, a: tensor("3", [1, -4]) });
  assert.deepEqual(elsewhere.map(({ here }) => here.slice(0, 7)), ["1 of th", "0.0e+0 "]);
  assert.match(compareWeights(weights, { a: weights.a })[0].what, /^weights: b$/);
});

Deno.test("a pack names commits of the Hub, and no folder of anybody's", () =>
  withTemporaryFolder(async (folder) => {
    const [run, out] = [join(folder, "run"), join(folder, "pack")];
    const [commit, other] = ["a".repeat(40), "b".repeat(40)];
    await Deno.mkdir(run);
    const config = {
      model_name_or_path: "org/model@main",
      dataset_mixer: [["org/data", 0.5], ["/home/somebody/pairs.jsonl", 1], ["data/pairs", 1]],
      loss_type: "sigmoid",
      use_peft: true,
      adapter_name_or_path: "org/adapter@main",
      ref_model: "org/reference",
      output_dir: "../somebody/out/",
      logging_dir: "C:\\Users\\somebody\\logs",
      resume_from_checkpoint: "~somebody/checkpoint-3",
      prompts: ["/home is what?"],
    };
    const { format: _, dataFiles: _1, results: _2, weightsStep: _3, tensors: _4, ...provenance } = packOf();
    const facts = {
      name: "a",
      device: "a GPU",
      dataFiles: [{ path: "/home/somebody/pairs.jsonl", sha256: "d" }],
      provenance: {
        ...provenance,
        run: { ...provenance.run, config, date: "2024-07-26" },
        revisions: { model: commit, adapter: other, reference: other, data: [other, null, null] },
      },
    };
    const state = { global_step: 4, log_history: [{ step: 4, epoch: 1, loss: 0.5, tokens_per_second: 7 }] };
    const files = {
      "report.json": facts,
      "trainer_state.json": state,
      "all_results.json": { train_loss: 1, train_runtime: 3 },
    };
    for (const [name, content] of Object.entries(files)) {
      await Deno.writeTextFile(join(run, name), JSON.stringify(content));
    }
    await writePack(run, out);
    const texts = await Promise.all(
      [...Deno.readDirSync(out)].map(({ name }) => Deno.readTextFile(join(out, name))),
    );
    assert.ok(texts.every((text) => !text.includes("somebody")));
    const { config: keys } = parseConfig(await Deno.readTextFile(join(out, "config.yaml")), "config.yaml");
    assert.deepEqual([keys.modelNameOrPath, keys.modelRevision], ["org/model", commit]);
    assert.equal(keys.adapterNameOrPath, `org/adapter@${other}`);
    assert.equal(keys.refModel, `org/reference@${other}`);
    const names = keys.datasetMixer.map(({ path }) => path);
    assert.deepEqual(names, [`org/data@${other}`, "pairs.jsonl", "data/pairs"]);
    assert.deepEqual([keys.outputDir, keys.loggingDir, keys.prompts], ["out", "logs", ["/home is what?"]]);
    assert.equal(keys.chatTemplateDate, "2024-07-26");
    const { pack, log } = await readPack(out);
    assert.deepEqual([pack.results, log], [{ train_loss: 1 }, [{ step: 4, epoch: 1, loss: 0.5 }]]);
    // Of a pack it may be written again; anything else stays.
    await writePack(run, out);
    await assert.rejects(writePack(run, run), /is no pack and not empty/);
  }));

Deno.test("what is no finished run or no pack is refused by its file", () =>
  withTemporaryFolder(async (folder) => {
    const none = await task("export-run", folder);
    assert.deepEqual([none.status, none.stdout], [1, ""]);
    assert.match(
      none.stderr,
      /^error: .*report\.json: cannot be read: .*expected the output_dir of a finished run$/m,
    );
    await assert.rejects(readPack(folder), /pack\.json: cannot be read: .*expected the folder of a pack/);
    await Deno.writeTextFile(join(folder, "pack.json"), JSON.stringify({ format: 2 }));
    await assert.rejects(readPack(folder), /expected format 1, found 2/);
    await Deno.writeTextFile(join(folder, "pack.json"), JSON.stringify({ ...packOf(), pairs: 3 }));
    await assert.rejects(readPack(folder), /not as simper writes it: was it changed\?/);
  }));
