/**
 * EXAONE 3.5, of which transformers has no class: it computes what Llama does, so a golden Llama under its names is
 * its oracle.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { parseModelConfig } from "../../lib/models/config.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import { GOLDEN, readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { useGpu } from "../kernels/harness.ts";
import { modelWith } from "../model_with.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** What its names have in Llama's place. */
const NAMES: [string, string][] = [
  ["model.embed_tokens", "transformer.wte"],
  ["model.layers.", "transformer.h."],
  ["model.norm", "transformer.ln_f"],
  ["input_layernorm", "ln_1"],
  ["post_attention_layernorm", "ln_2"],
  ["self_attn.o_proj", "attn.attention.out_proj"],
  ["self_attn.", "attn.attention."],
  ["mlp.gate_proj", "mlp.c_fc_0"],
  ["mlp.up_proj", "mlp.c_fc_1"],
  ["mlp.down_proj", "mlp.c_proj"],
];
const renamed = (name: string) => NAMES.reduce((name, [llama, exaone]) => name.replace(llama, exaone), name);

/** Keys of EXAONE-3.5-2.4B-Instruct. */
const EXAONE_2_4B = {
  activation_function: "silu",
  architectures: ["ExaoneForCausalLM"],
  attention_dropout: 0.0,
  auto_map: { AutoModelForCausalLM: "modeling_exaone.ExaoneForCausalLM" },
  embed_dropout: 0.0,
  head_dim: 80,
  hidden_size: 2560,
  intermediate_size: 7168,
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 32768,
  model_type: "exaone",
  num_attention_heads: 32,
  num_key_value_heads: 8,
  num_layers: 30,
  pad_token_id: 0,
  rope_scaling: {
    factor: 8.0,
    high_freq_factor: 4.0,
    low_freq_factor: 1.0,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 1000000,
  torch_dtype: "float16",
  vocab_size: 102400,
};

const parse = (keys: Record<string, unknown>, warn?: (message: string) => void) =>
  parseModelConfig({ ...EXAONE_2_4B, ...keys }, "config.json", warn) as LlamaConfig;

Deno.test("the keys of EXAONE 3.5 are Llama's under other names", () => {
  const { modelType, ...config } = parse({}, assert.fail);
  const { activation_function, layer_norm_epsilon, num_layers, ...common } = EXAONE_2_4B;
  const { modelType: _, attentionBias, mlpBias, ...llama } = parseModelConfig({
    ...common,
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    auto_map: null,
    hidden_act: activation_function,
    rms_norm_eps: layer_norm_epsilon,
    num_hidden_layers: num_layers,
    // Its own default.
    tie_word_embeddings: true,
  }, "config.json") as LlamaConfig;
  assert.deepEqual(config, llama);
  assert.deepEqual([modelType, attentionBias, mlpBias], ["exaone", false, false]);

  assert.equal(parse({ intermediate_size: null }).intermediateSize, 4 * 2560);
  assert.equal(parse({ num_hidden_layers: 4 }).numHiddenLayers, 4);
  assert.equal(parse({ num_key_value_heads: null, head_dim: undefined }).numKeyValueHeads, 32);
  for (
    const [keys, message] of [
      [{ head_dim: 64 }, /head_dim: 64 is not supported; supported: hidden_size \/ num_attention_heads/],
      [{ embed_dropout: "x" }, /embed_dropout: expected a number/],
      [{ num_layers: 0 }, /num_layers: expected a whole number/],
      [{ hidden_size: 2561 }, /hidden_size 2561 is no multiple of num_attention_heads 32/],
    ] as const
  ) assert.throws(() => parse(keys), (error) => error instanceof UserError && message.test(error.message));
});

useGpu();
Deno.test("EXAONE 3.5 trains as Llama does, and is saved under its own names with the code that transformers runs for it", () =>
  withTemporaryFolder(async (folder) => {
    const model = await modelWith(folder, (tensor) => tensor.name = renamed(tensor.name));
    const { hidden_act, rms_norm_eps, num_hidden_layers, ...keys } = JSON.parse(
      await Deno.readTextFile(join(model, "config.json")),
    );
    const config = {
      ...keys,
      model_type: "exaone",
      architectures: ["ExaoneForCausalLM"],
      activation_function: hidden_act,
      layer_norm_epsilon: rms_norm_eps,
      num_layers: num_hidden_layers,
    };
    await Deno.writeTextFile(join(model, "config.json"), JSON.stringify(config));
    await Deno.writeTextFile(join(model, "modeling_exaone.py"), "# code");

    const out = join(folder, "out");
    await run(out, [`--model_name_or_path=${model}`, "--max_steps=-1", "--save_strategy=no"]);
    assert.equal(await Deno.readTextFile(join(out, "modeling_exaone.py")), "# code");
    const { log } = await readGolden("untied");
    const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
    for (const key of Object.keys(log[0])) {
      const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key]);
      assert.ok(relativeDifference(series(state.log_history), series(log)) < 1e-4, key);
    }
    const found = await readTensors(join(out, "model.safetensors"));
    const expected = await readTensors(`${GOLDEN}/untied-golden/model/model.safetensors`);
    assert.deepEqual([...found.keys()].sort(), [...expected.keys()].map(renamed).sort());
    for (const [name, values] of expected) {
      assert.ok(relativeDifference(found.get(renamed(name))!, values) < 1e-4, name);
    }
  }));
