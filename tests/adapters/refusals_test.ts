/** What is wrong with adapters, as people are told. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { adapt } from "../../lib/adapters/adapt.ts";
import { parseAdapterConfig } from "../../lib/adapters/adapter_config.ts";
import { findModel, openFound } from "../../lib/adapters/model.ts";
import { chooseModules, linearModules } from "../../lib/adapters/modules.ts";
import { checkAdapter, openAdapter } from "../../lib/adapters/open.ts";
import { type AdapterKeys, scaleOf } from "../../lib/adapters/settings.ts";
import type { ModelConfig } from "../../lib/models/architecture.ts";
import { netOf } from "../../lib/models/models.ts";
import { writeSafetensors } from "../../lib/safetensors/write.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { refusal } from "../in_process.ts";
import { mistakes, parsed } from "../run_file.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = "tests/golden/adapters";
const LLAMA = "tests/golden/llama/untied";
const KEYS: AdapterKeys = {
  loraR: 8,
  loraAlpha: 16,
  loraDropout: 0,
  loraTargetModules: undefined,
  loraModulesToSave: undefined,
  useRslora: false,
  useDora: false,
  loraTaskType: "CAUSAL_LM",
};

const model = await readModelConfig(LLAMA);
const choose = (keys: Partial<AdapterKeys>, of: ModelConfig = model) =>
  chooseModules(netOf(of), of, { ...KEYS, ...keys });
const ends = (
  modules: Iterable<string>,
) => [...new Set([...modules].map((name) => name.slice(name.lastIndexOf(".") + 1)))];

Deno.test("modules are found as PEFT finds them: its usual ones, ends of names, a regular expression, all linear ones", () => {
  assert.deepEqual(ends(choose({}).modules), ["q_proj", "v_proj"]);
  const all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
  for (const loraTargetModules of ["all-linear", ["all-linear"], "All-Linear"]) {
    const { modules, record } = choose({ loraTargetModules });
    assert.deepEqual([...modules], linearModules(netOf(model)));
    assert.deepEqual(record.target_modules, all);
  }
  assert.deepEqual(
    [...choose({ loraTargetModules: ["0.mlp.up_proj", "self_attn.o_proj"] }).modules],
    ["model.layers.0.self_attn.o_proj", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.o_proj"],
  );
  // The end of a name is of whole words.
  assert.throws(() => choose({ loraTargetModules: ["proj"] }), /"proj" is the end of no linear layer's name/);
  const one = choose({ loraTargetModules: ".*\\.1\\.mlp\\.(up|down)_proj" });
  assert.deepEqual([...one.modules], ["model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"]);
  assert.equal(one.record.target_modules, ".*\\.1\\.mlp\\.(up|down)_proj");
  // As TRL, which makes a text of a list of one; and as PEFT, whose list of one is one of ends.
  assert.deepEqual(choose({ loraTargetModules: [".*\\.1\\.mlp\\.(up|down)_proj"] }).modules, one.modules);
  assert.deepEqual(ends(choose({ loraTargetModules: ["k_proj"] }).modules), ["k_proj"]);

  const { modules, saved } = choose({
    loraTargetModules: "all-linear",
    loraModulesToSave: ["lm_head", "o_proj"],
  });
  assert.ok(![...modules].some((name) => name.endsWith("o_proj")));
  assert.deepEqual([...saved].sort(), [
    "lm_head.weight",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.1.self_attn.o_proj.weight",
  ]);
});

Deno.test("a scale is alpha by rank or by its root, and a module's own where there is one", () => {
  const settings = {
    rank: 16,
    rankPattern: {},
    alpha: 32,
    alphaPattern: { "1.mlp.up_proj": 8 },
    dropout: 0,
    rslora: false,
    dora: false,
  };
  assert.equal(scaleOf(settings, "model.layers.1.mlp.down_proj", 16), 2);
  assert.equal(scaleOf(settings, "model.layers.1.mlp.up_proj", 16), 0.5);
  assert.equal(scaleOf({ ...settings, rslora: true }, "a", 16), 8);
});

Deno.test("keys of adapters that fit nothing are refused, all at once, with what was meant", async () => {
  const says = (keys: Partial<AdapterKeys>, of?: ModelConfig) => {
    try {
      choose(keys, of);
    } catch (error) {
      return (error as Error).message;
    }
    assert.fail("no error");
  };
  const both = says({ loraTargetModules: ["q_prj", "v_proj"], loraModulesToSave: ["lm_haed"] }).split("\n");
  assert.deepEqual(both, [
    'lora_modules_to_save: "lm_haed" is the end of no module\'s name: did you mean lm_head?',
    'lora_target_modules: "q_prj" is the end of no linear layer\'s name: did you mean q_proj? There are q_proj, k_proj, ' +
    "v_proj, o_proj, gate_proj, up_proj, down_proj",
  ]);
  assert.match(says({ loraModulesToSave: ["q_proj", "v_proj"] }), /nothing is left to adapt/);
  assert.match(says({ loraTargetModules: ["lm_head", "q_proj"] }), /lora_modules_to_save trains them whole/);
  const tied = await readModelConfig("tests/golden/llama/padding");
  assert.match(
    says({ loraModulesToSave: ["lm_head"] }, tied),
    /"lm_head": this model's head is its embedding/,
  );
  assert.match(says({ loraModulesToSave: ["embed_tokens"] }, tied), /head is its embedding/);
  const arcee = await readModelConfig("tests/golden/models/arcee");
  assert.match(
    says({}, arcee),
    /^lora_target_modules: missing: PEFT has no usual modules of arcee: name them, such as \[q_proj/,
  );
  assert.match(says({ loraTargetModules: "((a+)+)+b" }), /is the end of no linear layer's name/);

  const adapted = (keys: Partial<AdapterKeys>) => () => adapt(netOf(model), choose(keys));
  assert.throws(
    adapted({ loraR: 17, loraTargetModules: ["v_proj", "down_proj"] }),
    /^UserError: lora_r: expected at most 16, the lesser side of model\.layers\.0\.self_attn/,
  );
  assert.throws(
    adapted({ loraModulesToSave: ["k_proj"] }),
    /self_attn\.k_proj would be trained and .*q_proj.* not: they are kept and trained as one here/,
  );

  const keys = (text: string) => mistakes(`model_name_or_path: m\ndataset_mixer: {a.jsonl: 1}\n${text}`);
  assert.match(
    keys("use_peft: true\nlora_r: 0\n")[0],
    /^run\.yaml:4:9: lora_r: expected an integer from 1 to/,
  );
  assert.match(
    keys("use_peft: true\nlora_target_modules: '(a'\n")[0],
    /lora_target_modules: expected a regular expression/,
  );
  assert.match(keys("use_peft: true\nfrom_scratch: true\n")[0], /use_peft: expected a model to adapt/);
  assert.match(
    keys("use_peft: true\nunfrozen_parameters: [a]\n")[0],
    /use_peft: adapters are trained in place/,
  );
  assert.match(keys("adapter_name_or_path: a\n")[0], /expected use_peft: true beside it, found false/);
  assert.match(keys("lora_rank: 8\n")[0], /did you mean lora_r\?/);
  assert.deepEqual(parsed("lora_r: 8\n").ignored, ["lora_r: ignored: use_peft is off"]);
  assert.match(parsed("use_peft: yes\nadapter_name_or_path: a\nlora_r: 8\n").ignored[0], /have their own$/);
});

Deno.test("adapter files of another model, or of another kind of PEFT's, are refused by what does not fit", async () => {
  const gpt = await readModelConfig("tests/golden/models/gpt_neox");
  const adapter = await openAdapter(join(GOLDEN, "lora"));
  assert.throws(
    () => checkAdapter(adapter, netOf(gpt)),
    /adapters are not of this model:\n {2}model\.layers\.0\.mlp\.down_proj: no linear layer of the model.*\n[^]*they were trained on "tests\/golden\/llama\/untied"$/,
  );
  const other = await readModelConfig("tests/golden/llama/sliding-window");
  checkAdapter(adapter, netOf(other));
  const wide = { ...other, hiddenSize: 96 };
  assert.throws(
    () => checkAdapter(adapter, netOf(wide)),
    /lora_A\.weight: shape \[8,48\], expected \[r,96\]/,
  );
  await adapter.close();

  const record = { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: ["0.self_attn.q_proj"] };
  const parse = (change: object) => () =>
    parseAdapterConfig(JSON.stringify({ ...record, ...change }), "c.json");
  assert.throws(
    parse({ peft_type: "PROMPT_TUNING" }),
    /c\.json: peft_type: expected LORA, found "PROMPT_TUNING": of PEFT/,
  );
  assert.throws(parse({ peft_type: "IA3" }), /found "IA3"/);
  assert.throws(parse({ bias: "all" }), /bias: expected "none", found "all": it is not supported/);
  assert.throws(parse({ trainable_token_indices: [1] }), /trainable_token_indices: expected nothing/);
  assert.throws(parse({ init_lora_weights: "pissa" }), /init_lora_weights: expected true or false/);
  assert.throws(parse({ use_dora: 1 }), /use_dora: expected true or false, found 1/);
  assert.throws(parse({ modules_to_save: [1] }), /modules_to_save: expected a list of texts, a text or null/);
  assert.throws(parse({ r: 0 }), /r: expected a number above 0, found 0/);
  assert.throws(parse({ rank_pattern: { "^a.*b": 4 } }), /rank_pattern: expected the ends of modules' names/);
  assert.throws(parse({ layers_to_transform: ["0"] }), /layers_to_transform: expected whole numbers/);
  assert.throws(parse({ exclude_modules: "(" }), /exclude_modules: expected a regular expression/);
  assert.throws(parse({ lora_dropout: 1 }), /lora_dropout: expected a number from 0 to below 1/);
  assert.throws(() => parseAdapterConfig("[", "c.json"), /^UserError: c\.json: not JSON/);

  await withTemporaryFolder(async (folder) => {
    const write = async (change: object, names: Record<string, number[]>, byte = 0) => {
      await Deno.writeTextFile(join(folder, "adapter_config.json"), JSON.stringify({ ...record, ...change }));
      await writeSafetensors(
        join(folder, "adapter_model.safetensors"),
        Object.entries(names).map(([name, shape]) => ({
          ...{ name, shape, dtype: "F32" as const },
          chunks: () => [new Uint8Array(4 * shape.reduce((product, n) => product * n, 1)).fill(byte)],
        })),
      );
    };
    const module = "base_model.model.model.layers.0.self_attn.q_proj";
    const [a, b] = [`${module}.lora_A.weight`, `${module}.lora_B.weight`];
    assert.match(await refusal(openAdapter(folder), 1), /expected a folder of adapters, as PEFT/);
    await write({}, { [a]: [8, 48] });
    assert.match(await refusal(openAdapter(folder), 1), /q_proj\.lora_B\.weight: missing/);
    await write({ use_dora: true }, { [a]: [8, 48], [b]: [48, 8] });
    assert.match(await refusal(openAdapter(folder), 1), /lora_magnitude_vector: missing/);
    await write({}, { [a]: [8, 48], [b]: [48, 8], "base_model.model.lm_head.weight": [303, 48] });
    assert.match(await refusal(openAdapter(folder), 1), /lm_head\.weight" is no tensor of LoRA/);
    await write({}, { [a]: [8, 48], [b]: [48, 8] }, 0xff);
    assert.match(await refusal(openAdapter(folder), 1), /q_proj\.lora_[AB]\.weight: holds NaN/);
    await write({}, {});
    assert.match(await refusal(openAdapter(folder), 1), /holds no adapter/);
    await write({}, { [a]: [4, 48], [b]: [48, 4] });
    assert.match(
      await refusal(openAdapter(folder), 1),
      /rank 4 in lora_A.* and 8 in adapter_config\.json \(r\)/,
    );
    await write({}, { [a]: [8, 48], [b]: [48, 8], [`${module}.lora_magnitude_vector`]: [48] });
    assert.match(await refusal(openAdapter(folder), 1), /is of DoRA, and use_dora/);
    for (
      const [change, says] of [
        [{ target_modules: ["q_proj"] }, /layers\.1\.self_attn\.q_proj: missing, of target_modules/],
        [{ target_modules: [".*"] }, /layers\.0\.self_attn\.q_proj: not in target_modules/],
        [{ modules_to_save: ["lm_head"] }, /lm_head\.weight: missing, of modules_to_save/],
      ] as const
    ) {
      await write(change, { [a]: [8, 48], [b]: [48, 8] });
      assert.match(await refusal(openFound({ folder: LLAMA, adapter: folder }), 1), says);
    }
    await write({}, { "base_model.model.model.embed_tokens.lora_embedding_A": [8, 303] });
    assert.match(await refusal(openAdapter(folder), 1), /adapters of an embedding are not supported/);
    await write({}, { [a]: [4, 48], [b]: [48, 8] });
    assert.match(
      await refusal(openFound({ folder: LLAMA, adapter: folder }), 1),
      /rank 4 in lora_A, 8 in lora_B/,
    );

    // Ranks of modules that are one matrix here can be merged, and not trained.
    const [a2, b2] = [a, b].map((name) => name.replace("q_proj", "v_proj"));
    await write(
      { rank_pattern: { q_proj: 4 }, target_modules: ["0.self_attn.q_proj", "0.self_attn.v_proj"] },
      { [a]: [4, 48], [b]: [48, 4], [a2]: [8, 48], [b2]: [16, 8] },
    );
    const ranked = await openAdapter(folder);
    assert.throws(
      () => adapt(netOf(model), ranked),
      /q_proj has rank 4 and scale 4, and model\.layers\.0\.self_attn\.v_proj 8 and 2 \(rank_pattern, alpha_pattern\)/,
    );
    await ranked.close();
    await (await openFound({ folder: LLAMA, adapter: folder })).close();
    // What exclude_modules and layers_to_transform leave out is not missed.
    for (
      const [change, says] of [
        [{ exclude_modules: ["1.self_attn.q_proj"] }],
        [{ exclude_modules: ".*\\.1\\..*" }],
        [{ layers_to_transform: [0] }],
        [{ layers_to_transform: 0 }],
        [{ exclude_modules: ["q_proj"] }, /layers\.0\.self_attn\.q_proj: not in target_modules/],
        [{ layers_to_transform: [1] }, /layers\.0\.self_attn\.q_proj: not in target_modules/],
      ] as [object, RegExp?][]
    ) {
      await write({ target_modules: ["q_proj"], ...change }, { [a]: [8, 48], [b]: [48, 8] });
      const opened = openFound({ folder: LLAMA, adapter: folder });
      if (says) assert.match(await refusal(opened, 1), says);
      else await (await opened).close();
    }
    const [headA, headB] = [a, b].map((name) => name.replace("model.layers.0.self_attn.q_proj", "lm_head"));
    await write({ target_modules: ["lm_head"] }, { [headA]: [8, 48], [headB]: [303, 8] });
    assert.match(
      await refusal(openFound({ folder: LLAMA, adapter: folder }), 1),
      /\n {2}lm_head: adapters of the head are not available/,
    );
    // A folder of adapters names its model, and is none.
    assert.match(await refusal(findModel(folder), 1), /base_model_name_or_path: expected the model/);
    await write({ base_model_name_or_path: folder }, { [a]: [8, 48], [b]: [48, 8] });
    assert.match(
      await refusal(findModel(folder), 1),
      /base_model_name_or_path: .* is itself a folder of adapters: name/,
    );
    await write({ base_model_name_or_path: LLAMA }, { [a]: [8, 48], [b]: [48, 8] });
    assert.deepEqual(await findModel(folder), { folder: LLAMA, adapter: folder });
    assert.match(await refusal(openModel(folder), 1), /the folder is of adapters \(PEFT\)/);
  });
});
