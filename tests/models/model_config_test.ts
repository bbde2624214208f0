import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ACTIVATIONS } from "../../kernels/activation.ts";
import { UserError } from "../../lib/errors.ts";
import type { Net } from "../../lib/graph/net.ts";
import { partsOf } from "../../lib/parameters/parameter.ts";
import { ARCHITECTURES, netOf } from "../../lib/models/models.ts";
import { MULTIMODAL } from "../../lib/models/multimodal.ts";
import { whatIsMissing } from "../../lib/models/unsupported.ts";
import { parseModelConfig as parseBase } from "../../lib/models/config.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import type { Windows } from "../../lib/models/keys.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { ropeInverseFrequencies } from "../../lib/graph/rope_table.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** SmolLM2-135M-Instruct's keys, as transformers 4 wrote them. */
const VERSION_4 = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0.0,
  hidden_act: "silu",
  hidden_size: 576,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 100000,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  vocab_size: 49152,
};

const LLAMA3_SCALING = {
  factor: 8.0,
  high_freq_factor: 4.0,
  low_freq_factor: 1.0,
  original_max_position_embeddings: 8192,
};

const LLAMA3_ROPE = {
  type: "llama3",
  theta: 500000,
  dimensions: 64,
  interleaved: false,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 8192,
};

/** With the keys of any architecture. */
const parseModelConfig = (...args: Parameters<typeof parseBase>) =>
  parseBase(...args) as LlamaConfig & Partial<Windows>;

function parse(keys: Record<string, unknown>) {
  return parseModelConfig({ ...VERSION_4, ...keys }, "config.json");
}

function assertRefused(keys: Record<string, unknown>, ...problems: string[]): void {
  assert.throws(() => parse(keys), (error) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.status, 1);
    const [first, ...rest] = error.message.split("\n");
    if (problems.length === 1) assert.equal(error.message, `config.json: ${problems[0]}`);
    else {
      assert.equal(first, `config.json: ${problems.length} problems:`);
      assert.deepEqual(rest, problems.map((problem) => `  ${problem}`));
    }
    return true;
  });
}

Deno.test("parseModelConfig() reads the keys of transformers 4", () => {
  assert.deepEqual(parse({}), {
    modelType: "llama",
    vocabSize: 49152,
    hiddenSize: 576,
    intermediateSize: 1536,
    numHiddenLayers: 30,
    numAttentionHeads: 9,
    numKeyValueHeads: 3,
    headDim: 64,
    hiddenAct: "silu",
    rmsNormEps: 1e-5,
    tieWordEmbeddings: true,
    rope: { type: "default", theta: 100000, dimensions: 64, interleaved: false },
    maxPositionEmbeddings: 8192,
    attentionBias: false,
    mlpBias: false,
    dtype: "bfloat16",
  });
});

Deno.test("parseModelConfig() reads the same model from the keys of transformers 5", () => {
  const { rope_theta, rope_scaling: _, torch_dtype, ...common } = VERSION_4;
  const version5 = {
    ...common,
    dtype: torch_dtype,
    head_dim: 64,
    rope_parameters: { rope_theta, rope_type: "default" },
  };
  assert.deepEqual(parseModelConfig(version5, "config.json"), parse({}));
});

Deno.test("parseModelConfig() takes transformers' defaults for absent keys and for null", () => {
  const defaults = {
    modelType: "llama",
    vocabSize: 32000,
    hiddenSize: 4096,
    intermediateSize: 11008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 32,
    headDim: 128,
    hiddenAct: "silu",
    rmsNormEps: 1e-6,
    tieWordEmbeddings: false,
    rope: { type: "default", theta: 10000, dimensions: 128, interleaved: false },
    maxPositionEmbeddings: 2048,
    attentionBias: false,
    mlpBias: false,
    dtype: undefined,
  };
  assert.deepEqual(parseModelConfig({ model_type: "llama" }, "config.json"), defaults);
  const nulls = {
    num_key_value_heads: null,
    head_dim: null,
    rope_parameters: null,
    rope_scaling: null,
    dtype: null,
  };
  assert.deepEqual(parseModelConfig({ model_type: "llama", ...nulls }, "config.json"), defaults);
  assert.equal(parse({ num_key_value_heads: undefined }).numKeyValueHeads, 9);
});

Deno.test("parseModelConfig() reads llama3 scaling in all three spellings", () => {
  for (
    const keys of [
      { rope_theta: 500000, rope_scaling: { ...LLAMA3_SCALING, rope_type: "llama3" } },
      { rope_theta: 500000, rope_scaling: { ...LLAMA3_SCALING, type: "llama3" } },
      { rope_parameters: { ...LLAMA3_SCALING, rope_type: "llama3", rope_theta: 500000 } },
    ]
  ) assert.deepEqual(parse(keys).rope, LLAMA3_ROPE);
});

Deno.test("parseModelConfig() decides between rope keys as transformers does", () => {
  const llama3 = { ...LLAMA3_SCALING, rope_type: "llama3" };
  // rope_scaling before rope_parameters, unless it is empty; rope_theta inside before outside.
  assert.deepEqual(
    parse({ rope_theta: 500000, rope_scaling: llama3, rope_parameters: { rope_theta: 7 } }).rope,
    LLAMA3_ROPE,
  );
  assert.deepEqual(parse({ rope_scaling: {}, rope_parameters: { rope_theta: 7 } }).rope, {
    type: "default",
    theta: 7,
    dimensions: 64,
    interleaved: false,
  });
  // The original length: the file's own key, then the scaling's, then max_position_embeddings.
  const { original_max_position_embeddings: _, ...without } = llama3;
  const original = (keys: Record<string, unknown>) => {
    const { rope } = parse({ max_position_embeddings: 4096, ...keys });
    return rope.type === "llama3" && rope.originalMaxPositionEmbeddings;
  };
  assert.equal(original({ rope_scaling: llama3, original_max_position_embeddings: 1024 }), 1024);
  assert.equal(original({ rope_scaling: llama3 }), 8192);
  assert.equal(original({ rope_scaling: without }), 4096);
});

Deno.test("parseModelConfig() prefers dtype to torch_dtype", () => {
  assert.equal(parse({ dtype: "float32" }).dtype, "float32");
});

Deno.test("parseModelConfig() refuses what is not supported yet and says what is", () => {
  const names = [...ARCHITECTURES.keys()];
  assertRefused(
    { model_type: "other", hidden_size: "?" },
    'model_type: "other" is not supported yet; supported: ' + names.join(", "),
  );
  assertRefused(
    { model_type: "qwen3_moe" },
    'model_type: "qwen3_moe" needs experts (a mixture of experts), which is not supported yet; supported: ' +
      names.join(", "),
  );
  assertRefused({ model_type: undefined }, `model_type: expected ${names.join(" or ")}, found nothing`);
  assertRefused(
    { hidden_act: "laplace" },
    `hidden_act: "laplace" is not supported yet; supported: ${ACTIVATIONS.join(", ")}`,
  );
  assertRefused(
    { rope_scaling: { type: "mrope", factor: 2 } },
    'rope_scaling.type: "mrope" is not supported yet; supported: default, linear, dynamic, yarn, llama3, longrope, ' +
      "proportional",
  );
  assertRefused(
    { rope_parameters: { full_attention: { rope_type: "default" } } },
    "rope_parameters: a set for each layer type is not supported yet",
  );
  assertRefused(
    { partial_rotary_factor: 0.25, rope_scaling: { type: "linear", factor: 2 } },
    "partial_rotary_factor: 0.25 is not supported with linear: heads are rotated whole",
  );
  for (const key of ["quantization_config", "compression_config"]) {
    const why =
      "the weights are quantized already: take the model as it was before; load_in_4bit and load_in_8bit quantize " +
      "frozen weights of it here";
    assertRefused({ [key]: { bits: 4 } }, `${key}: ${why}`);
  }
  assertRefused(
    { transformers_weights: "other.safetensors" },
    "transformers_weights: weights under another name are not read: call the file model.safetensors",
  );
  assertRefused(
    { layer_types: ["sliding_attention"] },
    'layer_types: ["sliding_attention"] is not supported; supported: "full_attention" for each layer, or none',
  );
});

Deno.test("parseModelConfig() names every problem of a file at once", () => {
  assertRefused(
    {
      hidden_act: "xielu",
      hidden_size: -576,
      vocab_size: "49152",
      num_hidden_layers: 1e12,
      intermediate_size: 1.5,
      rms_norm_eps: 0,
      tie_word_embeddings: 1,
      rope_theta: null,
      is_causal: false,
      attention_dropout: "0.1",
      rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 1 },
      torch_dtype: 16,
    },
    "is_causal: false lets tokens see later ones, which is not supported",
    'vocab_size: expected a whole number from 1 to 16777216, found "49152"',
    "hidden_size: expected a whole number from 1 to 1048576, found -576",
    "num_hidden_layers: expected a whole number from 1 to 1024, found 1000000000000",
    "tie_word_embeddings: expected true or false, found 1",
    "torch_dtype: expected float32 or float or float16 or half or bfloat16, found 16",
    'attention_dropout: expected a number, found "0.1"',
    "intermediate_size: expected a whole number from 1 to 4194304, found 1.5",
    `hidden_act: "xielu" is not supported yet; supported: ${ACTIVATIONS.join(", ")}`,
    "rms_norm_eps: expected a number above 0 within the range of float32, found 0",
    "rope_theta: expected a number above 0 within the range of float32, found null",
    "rope_scaling.high_freq_factor must be greater than low_freq_factor 4, found 1",
  );
});

Deno.test("parseModelConfig() checks that sizes fit each other", () => {
  assertRefused(
    { hidden_size: 575 },
    "hidden_size 575 is no multiple of num_attention_heads 9",
    "head_dim must be even, found 63",
  );
  assertRefused({ num_key_value_heads: 2 }, "num_attention_heads 9 is no multiple of num_key_value_heads 2");
  assertRefused(
    { num_key_value_heads: 18 },
    "num_attention_heads 9 is no multiple of num_key_value_heads 18",
  );
  assertRefused({ head_dim: 63 }, "head_dim must be even, found 63");
  assert.equal(parse({ head_dim: 128 }).headDim, 128);
});

Deno.test("parseModelConfig() refuses rope parameters that cannot be computed with", () => {
  for (const theta of [0, -1, 1e300, 1e-300, "10000"]) {
    assertRefused(
      { rope_theta: theta },
      `rope_theta: expected a number above 0 within the range of float32, found ${JSON.stringify(theta)}`,
    );
  }
  assertRefused({ rope_scaling: [] }, "rope_scaling: expected an object, found []");
  assertRefused(
    { rope_scaling: { rope_type: "llama3" } },
    ...["factor", "low_freq_factor", "high_freq_factor"].map((key) =>
      `rope_scaling.${key}: expected a number above 0 within the range of float32, found nothing`
    ),
  );
});

Deno.test("readModelConfig() names the file that is missing or broken", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "config.json");
    const refusal = (message: string) => (error: Error) =>
      error instanceof UserError && error.status === 1 && error.message.startsWith(`${path}: ${message}`);
    await assert.rejects(
      readModelConfig(folder),
      refusal("cannot be read: expected the configuration of a model"),
    );
    await writeFile(path, "{");
    await assert.rejects(readModelConfig(folder), refusal("not JSON"));
    await writeFile(path, "[]");
    await assert.rejects(readModelConfig(folder), refusal("expected a JSON object, found []"));
    await writeFile(path, JSON.stringify(VERSION_4));
    assert.deepEqual(await readModelConfig(folder), parse({}));
  }));

Deno.test("Falcon's heads of keys are blamed by the key that is wrong, in the file's own words", () => {
  const shape = { model_type: "falcon", hidden_size: 32, num_kv_heads: 2 };
  const falcon = (more: object) => () => parseModelConfig({ ...shape, ...more }, "config.json");
  assert.throws(
    falcon({ num_attention_heads: 4, multi_query: null }),
    /config.json: num_kv_heads: 2 is not supported with multi_query: null; supported: 4$/,
  );
  assert.throws(
    falcon({ multi_query: null }),
    /num_attention_heads: expected as many as num_kv_heads 2 with multi_query: null, found none, which is 71\n/,
  );
});

Deno.test("Mistral's window is 4096 where the key is absent and none where it is null", () => {
  const mistral = (more: object) => parseModelConfig({ model_type: "mistral", ...more }, "config.json");
  assert.equal(mistral({}).slidingWindow, 4096);
  assert.equal(mistral({ sliding_window: 20 }).slidingWindow, 20);
  assert.equal(mistral({ sliding_window: null }).slidingWindow, undefined);
  assert.throws(() => mistral({ sliding_window: 0 }), /sliding_window/);
  assert.equal(
    parseModelConfig({ model_type: "llama", sliding_window: 9 }, "config.json").slidingWindow,
    undefined,
  );
  assert.deepEqual(
    [mistral({}).numKeyValueHeads, mistral({}).intermediateSize, mistral({}).maxPositionEmbeddings],
    [8, 14336, 131072],
  );
});

type Result = Record<string, unknown>;

/**
 * Keys that transformers follows and that are refused here, each by its name: for every architecture, or for that
 * which is named.
 */
const REFUSED = [
  { hidden_act: "laplace" },
  { is_causal: null },
  { is_causal: false },
  { hidden_size: 18 },
  { sliding_window: 0 },
  // Half a head would be 3 numbers.
  { model_type: "glm4", head_dim: 6 },
  { model_type: "nemotron", head_dim: 6 },
  { model_type: "gpt_neox", head_dim: 6 },
  { model_type: "falcon", alibi: true },
  // It looks at no intermediate_size.
  { model_type: "falcon", per_layer_config: { 0: { intermediate_size: 8 } } },
  { rms_norm_eps: 0 },
  { dtype: "float64" },
  { transformers_weights: "other.safetensors" },
].map((keys) => JSON.stringify(keys));

/**
 * And keys that transformers refuses here and that change nothing, or whole numbers where it insists on 7.0: that is
 * the same here.
 */
const NOT_READ = [
  { pretraining_tp: null },
  // Of the class only the cache looks at it.
  { model_type: "falcon", sliding_window: 0 },
  { attn_logit_softcapping: 7 },
  { final_logit_softcapping: 7 },
  { logit_scale: 2 },
].map((keys) => JSON.stringify(keys));

/** A power may differ in its last bit. */
const isNear = (found: readonly number[], expected: readonly number[]) =>
  found.length === expected.length &&
  found.every((value, i) => Math.abs(value - expected[i]) <= 1e-5 * expected[i]);

/** The inverse frequencies of each table. */
const frequenciesOf = (net: Net): number[][] => net.ropes.map((rope) => [...ropeInverseFrequencies(rope)]);

/** By transformers' names: of ours they are the same words. */
const attributesOf = (config: object, keys: string[]): Result =>
  Object.fromEntries(keys.map((key) => {
    const field = key.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    return [key, (config as Result)[field] ?? null];
  }));

Deno.test("every key means what it means in transformers, or is refused (golden/config_keys/make.py)", async () => {
  const golden: [Record<string, unknown>, Result | null][] = JSON.parse(
    await Deno.readTextFile("tests/golden/config_keys/keys.json"),
  );
  let [base, usual]: [Record<string, unknown>, Result] = [{}, {}];
  const refused = new Set<string>();
  for (const [keys, changed] of golden) {
    if (changed && "tensors" in changed && "vocab_size" in keys) [base, usual] = [keys, changed];
    const label = `${base.model_type} ${JSON.stringify(keys)}`;
    const parsed = () => parseModelConfig({ ...base, ...keys }, "config.json");
    const known = (of: readonly string[]) =>
      [keys, { model_type: base.model_type, ...keys }].map((keys) => JSON.stringify(keys))
        .find((keys) => of.includes(keys));
    if (changed === null && known(NOT_READ)) continue;
    if (changed === null) {
      assert.throws(parsed, UserError, label);
      continue;
    }
    let config;
    try {
      config = parsed();
    } catch (error) {
      const found = known(REFUSED);
      assert.ok(found, `${label}: ${error}`);
      assert.match((error as Error).message, new RegExp(Object.keys(keys).map((key) => key).join("|")));
      refused.add(found);
      continue;
    }
    const expected: Result = { ...usual, ...changed };
    const net = netOf(config);
    const { tensors, pad, inv_freq, dropout: _, is_causal, ...attributes } = expected;
    const parts = [...partsOf(net.parameters)].map(([name, shape]) => `${name}[${shape}]`);
    assert.deepEqual(parts.toSorted(), tensors, label);
    assert.deepEqual([config.padTokenId ?? null, is_causal], [pad, true], label);
    for (const frequencies of frequenciesOf(net)) {
      assert.ok(
        (inv_freq as number[][]).some((known) => isNear(frequencies, known)),
        `${label}: ${frequencies}`,
      );
    }
    assert.deepEqual(attributesOf(config, Object.keys(attributes)), attributes, label);
  }
  assert.deepEqual([...refused].sort(), REFUSED.toSorted());
});

Deno.test("what is read otherwise than it may be meant is said", () => {
  const warnings = (keys: Record<string, unknown>) => {
    const said: string[] = [];
    parseModelConfig({ ...VERSION_4, ...keys }, "config.json", (message) => said.push(message));
    return said;
  };
  assert.deepEqual(warnings({ architectures: ["Other", "LlamaForCausalLM"] }), []);
  assert.deepEqual(warnings({ pad_token_id: -1 }), [
    "config.json: pad_token_id: -1 counts from the end, as PyTorch does: the embedding of token 49151 is not trained " +
    "where it is looked up",
  ]);
  assert.deepEqual(warnings({ attention_dropout: 0.1 }), [
    "config.json: attention_dropout: 0.1: nothing is dropped out, as with TRL's disable_dropout",
  ]);
  // The class's own defaults drop out, and so does every checkpoint of it.
  const seed = { model_type: "seed_oss", architectures: ["SeedOssForCausalLM"] };
  assert.deepEqual(warnings({ ...seed, attention_dropout: 0 }), [
    "config.json: residual_dropout: 0.1: nothing is dropped out, as with TRL's disable_dropout",
  ]);
  assert.deepEqual(warnings({ ...seed, attention_dropout: undefined, residual_dropout: 0 }), [
    "config.json: attention_dropout: 0.1: nothing is dropped out, as with TRL's disable_dropout",
  ]);
  const [architectures, code] = warnings({ architectures: ["LlamaModel"], auto_map: { AutoModel: "x" } });
  assert.match(architectures, /architectures: \["LlamaModel"\]; the model is trained as LlamaForCausalLM/);
  assert.match(code, /auto_map names code of the model's own, which is not run/);

  const gemma = (keys: Record<string, unknown>) =>
    warnings({ head_dim: 64, ...keys, model_type: "gemma", architectures: null });
  assert.deepEqual(gemma({ hidden_act: "gelu_pytorch_tanh", hidden_activation: null }), []);
  const [activation] = gemma({ hidden_act: "gelu", hidden_activation: "gelu_pytorch_tanh" });
  assert.match(activation, /hidden_act: "gelu" counts, as in transformers 5; transformers 4 takes "gelu_pyt/);
});

Deno.test("the text part of a multimodal model has its own keys and defaults, and its model says whether it is tied", () => {
  const text = { hidden_size: 64, num_attention_heads: 32, pad_token_id: 3 };
  const part = (model_type: string, keys: Record<string, unknown> = {}, of: Record<string, unknown> = text) =>
    parseModelConfig({ model_type, text_config: of, ...keys }, "config.json");
  const { partOf, ...config } = part("llava", { dtype: "bfloat16", pad_token_id: 7 });
  assert.equal(partOf, "llava");
  assert.deepEqual(config, { ...parseModelConfig({ model_type: "llama", ...text }, "c"), dtype: "bfloat16" });
  assert.equal(part("mistral3").modelType, "mistral");
  assert.equal(part("internvl").modelType, "qwen2");
  assert.equal(part("llava", {}, { ...text, model_type: "qwen3" }).modelType, "qwen3");

  const tied = (model_type: string, whole?: boolean, ofText?: boolean) =>
    part(model_type, { ...(whole !== undefined && { tie_word_embeddings: whole }) }, {
      ...text,
      ...(ofText !== undefined && { tie_word_embeddings: ofText }),
    }).tieWordEmbeddings;
  // Either of them, the class's default, and the whole's alone.
  assert.deepEqual([tied("llava"), tied("llava", false, true), tied("llava", true)], [false, true, true]);
  assert.deepEqual([tied("mistral3"), tied("mistral3", false, true)], [true, false]);
  assert.deepEqual([tied("llava_next", undefined, true), tied("llava_next", true, false)], [false, true]);

  const refused = (keys: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => part("llava", keys), { name: "UserError", message });
  refused({ text_config: [] }, /^config.json: .*text_config: expected the configuration of the text part/s);
  refused(
    { text_config: { ...text, model_type: "gpt_oss" } },
    /text_config.model_type: "gpt_oss" needs experts/,
  );
  refused(
    { text_config: { ...text, attention_dropout: "0" } },
    /text_config.attention_dropout: expected a number/,
  );
  refused(
    { text_config: { ...text, rope_scaling: { rope_type: "x" } } },
    /text_config.rope_scaling.rope_type: "x"/,
  );
  refused(
    { text_config: { ...text, final_logit_softcapping: 30 } },
    /text_config.model_type: "llama" scales its logits/,
  );
  refused(
    { quantization_config: { bits: 4 } },
    /^config.json: quantization_config: the weights are quantized already/,
  );
});

Deno.test("no architecture is both there and told to be missing", () => {
  for (const [modelType, { baseModelPrefix, className }] of ARCHITECTURES) {
    assert.equal(whatIsMissing(modelType), undefined, modelType);
    assert.ok(!MULTIMODAL.has(modelType), modelType);
    assert.match(className, /ForCausalLM$/);
    assert.match(baseModelPrefix, /^\w+$/);
  }
  assert.equal(whatIsMissing("deepseek_v3"), "needs latent attention (MLA) and experts");
  assert.equal(whatIsMissing("mamba2"), "needs linear attention or a state space");
  assert.equal(whatIsMissing("t5"), "has an encoder besides its decoder");
  assert.equal(whatIsMissing("qwen2_vl"), "is multimodal, and its text part is not trained alone here");
  assert.equal(whatIsMissing("__proto__"), undefined);
});
