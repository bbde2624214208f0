/** Which tensors of a folder's files are a model's weights, and what is said of the others. */
import assert from "node:assert/strict";
import { cp, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { partsOf } from "../../lib/parameters/parameter.ts";
import { netOf } from "../../lib/models/models.ts";
import { parseModelConfig } from "../../lib/models/config.ts";
import { openModel, readModel } from "../../lib/weights/weights.ts";
import { type Dtype, fromF32, isFloatDtype, tensorBytes } from "../../lib/safetensors/dtype.ts";
import { saveCheckpoint, writeSafetensors } from "../../lib/safetensors/write.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const SHAPE = {
  model_type: "llama",
  vocab_size: 3,
  hidden_size: 4,
  intermediate_size: 2,
  num_hidden_layers: 2,
  num_attention_heads: 2,
};
const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

interface TestTensor {
  shape: number[];
  dtype: Dtype;
  /** Every element. */
  value: number;
}
type Tensors = Map<string, TestTensor>;

const tensor = (value: number, shape: number[] = [3, 4], dtype: Dtype = "F32"): TestTensor => ({
  shape,
  dtype,
  value,
});

/** The tensors of the model, each filled with a number of its own. */
function usual(): Tensors {
  const parts = partsOf(netOf(parseModelConfig(SHAPE, "")).parameters);
  return new Map([...parts].map(([name, shape], i) => [name, tensor(i + 1, shape)]));
}

const renamedBy = (tensors: Tensors, rename: (name: string) => string): Tensors =>
  new Map([...tensors].map(([name, found]) => [rename(name), found]));

const sourceOf = ([name, { shape, dtype, value }]: [string, TestTensor]) => ({
  name,
  shape,
  dtype,
  chunks: () => {
    const bytes = tensorBytes(dtype, shape)!;
    if (!isFloatDtype(dtype)) return [new Uint8Array(bytes)];
    return [fromF32(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value), dtype)];
  },
});

interface Opened {
  /** By parameter. */
  values: Record<string, number>;
  /** Names in the files, each with its parameter. */
  saved: [string, string][];
  tied: boolean;
  said: string[];
}

async function opened(tensors: Tensors, keys: Record<string, unknown> = {}): Promise<Opened> {
  let result: Opened;
  await withTemporaryFolder(async (parent) => {
    const folder = join(parent, "model");
    await saveCheckpoint(folder, [...tensors].map(sourceOf));
    await writeFile(join(folder, "config.json"), JSON.stringify({ ...SHAPE, ...keys }));
    const said: string[] = [];
    const weights = await openModel(folder, (message) => said.push(message.replace(`${folder}: `, "")));
    const values = await Promise.all(
      [...weights.tensors.keys()].map(async (name) => [name, (await weights.readF32(name))[0]] as const),
    );
    await weights.close();
    assert.deepEqual(await readModel(folder), weights.model);
    result = {
      values: Object.fromEntries(values),
      saved: weights.saved.map((tensor) => [tensor.name, "parameter" in tensor ? tensor.parameter : ""]),
      tied: weights.model.tieWordEmbeddings,
      said,
    };
  });
  return result!;
}

async function refused(tensors: Tensors, keys: Record<string, unknown>, ...says: RegExp[]): Promise<void> {
  const error = await opened(tensors, keys).then(() => assert.fail("no error"), (error) => error);
  assert.ok(error instanceof UserError, error.stack);
  for (const part of says) assert.match(error.message, part);
}

/** By parameter, as `usual` fills them. */
const VALUES = Object.fromEntries([...usual()].map(([name, { value }]) => [name, value]));
const withoutHead = () => new Map([...usual()].filter(([name]) => name !== HEAD));
const { [HEAD]: _, ...TIED_VALUES } = VALUES;
const same = (tensors: Tensors) => [...tensors.keys()].map((name) => [name, name]);

Deno.test("weights under transformers' names are read and saved under them", async () => {
  assert.deepEqual(await opened(usual()), { values: VALUES, saved: same(usual()), tied: false, said: [] });
  assert.deepEqual(await opened(withoutHead(), { tie_word_embeddings: true }), {
    values: TIED_VALUES,
    saved: same(withoutHead()),
    tied: true,
    said: [],
  });
});

Deno.test("a head that differs from the embedding is not tied to it, whatever config.json says, and that is said", async () => {
  const { said, ...found } = await opened(usual(), { tie_word_embeddings: true });
  assert.deepEqual(found, { values: VALUES, saved: same(usual()), tied: false });
  assert.equal(said.length, 1);
  assert.match(
    said[0],
    /tie_word_embeddings is true .* lm_head.weight differs from model.embed_tokens.weight/,
  );
});

Deno.test("a head that equals the embedding is tied to it, and both are saved", async () => {
  for (const dtype of ["F32", "BF16", "F16"] as const) {
    const tensors = usual().set(HEAD, { ...usual().get(EMBEDDING)!, dtype });
    const saved = [...tensors.keys()].map((name) => [name, name === HEAD ? EMBEDDING : name]);
    const { saved: found, ...rest } = await opened(tensors, { tie_word_embeddings: true });
    assert.deepEqual(rest, { values: TIED_VALUES, tied: true, said: [] });
    // Wider types come first in a file.
    assert.deepEqual(found.toSorted(), saved.toSorted());
  }
});

Deno.test("numbers decide whether head and embedding are equal: -0 is 0, and NaN is not NaN", async () => {
  const tied = async (embedding: number, head: number) =>
    (await opened(usual().set(EMBEDDING, tensor(embedding)).set(HEAD, tensor(head)), {
      tie_word_embeddings: true,
    }))
      .tied;
  assert.equal(await tied(0, -0), true);
  assert.equal(await tied(NaN, NaN), false);
});

Deno.test("an embedding that is stored only as the head of a tied model is both", async () => {
  const tensors = renamedBy(withoutHead(), (name) => name === EMBEDDING ? HEAD : name);
  const { saved, ...rest } = await opened(tensors, { tie_word_embeddings: true });
  assert.deepEqual(rest, { values: TIED_VALUES, tied: true, said: [] });
  assert.deepEqual(saved, [...tensors.keys()].map((name) => [name, name === HEAD ? EMBEDDING : name]));
  await refused(
    tensors,
    { tie_word_embeddings: false },
    /model.embed_tokens.weight: missing, expected shape \[3,4\]/,
  );
});

Deno.test("weights are found with transformers' prefix, without it and with it twice, and keep their names", async () => {
  const ways: ((name: string) => string)[] = [
    (name) => name.replace(/^model\./, ""),
    (name) => name.replace(/^model\./, "model.model."),
    (name) => name === HEAD ? `model.${HEAD}` : name,
    // One by one, as transformers.
    (name) => name.includes("norm") ? name.replace(/^model\./, "") : name,
  ];
  for (const rename of ways) {
    assert.deepEqual(await opened(renamedBy(usual(), rename)), {
      values: VALUES,
      saved: [...usual().keys()].map((name) => [rename(name), name]),
      tied: false,
      said: [],
    });
  }
});

Deno.test("weights under another prefix are found by the end of their names, and keep them", async () => {
  const ways: [string, (name: string) => string][] = [
    ["language_model.model.", (name) => `language_model.${name}`],
    ["model.language_model.", (name) => name.replace(/^model\./, "model.language_model.")],
    ["language_model.", (name) => `language_model.${name.replace(/^model\./, "")}`],
    ["model.language_model.model.", (name) => `model.language_model.${name}`],
    ["language_model.model.", (name) => name === HEAD ? HEAD : `language_model.${name}`],
    ["a.b.c.", (name) => name === HEAD ? `a.${HEAD}` : name.replace(/^model\./, "a.b.c.")],
  ];
  for (const [prefix, rename] of ways) {
    const { said, ...found } = await opened(renamedBy(usual(), rename));
    const saved = [...usual().keys()].map((name) => [rename(name), name]);
    assert.deepEqual(found, { values: VALUES, saved, tied: false }, prefix);
    assert.deepEqual(said, [
      `the weights are read from under "${prefix}" and saved there again; transformers' class of model_type llama finds ` +
      "them only without it",
    ]);
  }
});

Deno.test("a name that could be either of two tensors is refused with both", async () => {
  await refused(
    usual().set("norm.weight", tensor(0, [4])),
    {},
    /"model.norm.weight" and "norm.weight" are both there/,
  );
  await refused(
    usual().set(`model.${HEAD}`, tensor(0)),
    {},
    /"lm_head.weight" and "model.lm_head.weight" are both/,
  );
  const twice = new Map(["a.", "b."].flatMap((prefix) => [...renamedBy(usual(), (name) => prefix + name)]));
  await refused(twice, {}, /"a.model.layers.0.\S+" and "b.model.layers.0.\S+" are both there/);
});

Deno.test("transformers' own names come before all others", async () => {
  const tensors = new Map([...usual(), ...renamedBy(usual(), (name) => `ema.${name}`)]);
  const { said, ...found } = await opened(tensors);
  assert.deepEqual(found, { values: VALUES, saved: same(usual()), tied: false });
  assert.equal(said.length, 1);
  assert.match(said[0], /^of the files' tensors 21 have no place/);
});

Deno.test("of two prefixes the one with more of the model is taken", async () => {
  const mtp: [string, TestTensor] = ["mtp.layers.0.input_layernorm.weight", tensor(0, [4])];
  const { said, ...found } = await opened(new Map([mtp, ...renamedBy(usual(), (name) => `text.${name}`)]));
  assert.deepEqual(found.values, VALUES);
  assert.deepEqual(said.map((message) => message.slice(0, 21)), [
    "the weights are read ",
    "of the files' tensors",
  ]);
});

Deno.test("tensors that the model has no place for are named once, and not saved", async () => {
  const extra = new Map<string, TestTensor>([
    ["model.layers.0.self_attn.rotary_emb.inv_freq", tensor(1, [1])],
    ["score.weight", tensor(1, [2, 4])],
    ...[0, 1].map((l) => [`model.layers.${l}.self_attn.q_proj.bias`, tensor(1, [4])] as const),
    ...[2, 3, 4].map((l) => [`model.layers.${l}.mlp.up_proj.weight`, tensor(1, [2, 4])] as const),
    ["steps", tensor(0, [], "I64")],
  ]);
  const { said, ...found } = await opened(new Map([...usual(), ...extra]));
  assert.deepEqual({ ...found, saved: found.saved.toSorted() }, {
    values: VALUES,
    saved: same(usual()).toSorted(),
    tied: false,
  });
  assert.equal(said.length, 1);
  const [before, names] = said[0].split("as in transformers: ");
  assert.match(
    before,
    /^of the files' tensors 7 have no place in the model of config.json, and are neither used nor saved/,
  );
  assert.deepEqual(names.split(", ").sort(), [
    '"model.layers.{0...1}.self_attn.q_proj.bias"',
    '"model.layers.{2...4}.mlp.up_proj.weight"',
    '"score.weight"',
    '"steps"',
  ]);
  const many = new Map(Array.from({ length: 40 }, (_, i) => [`x${i}`, tensor(1, [1])] as const));
  assert.match(
    (await opened(new Map([...usual(), ...many]))).said[0],
    /tensors 40 have .*"x0", .*"x7" and 32 more$/,
  );
});

Deno.test("GPT-NeoX's head has two names, and its old files' buffers are passed over without a word", async () => {
  const keys = { model_type: "gpt_neox", rotary_pct: 1 };
  const parts = partsOf(netOf(parseModelConfig({ ...SHAPE, ...keys }, "")).parameters);
  const tensors: Tensors = new Map([...parts].map(([name, shape], i) => [name, tensor(i + 1, shape)]));
  const old = renamedBy(tensors, (name) => name === HEAD ? "embed_out.weight" : name);
  const buffers = new Map(
    ["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"].map((name) =>
      [`gpt_neox.layers.0.${name}`, tensor(1, [1])] as const
    ),
  );
  const [renamed, own] = [await opened(new Map([...old, ...buffers]), keys), await opened(tensors, keys)];
  assert.deepEqual(renamed.values, own.values);
  assert.deepEqual(renamed.saved.find(([, parameter]) => parameter === HEAD), ["embed_out.weight", HEAD]);
  assert.deepEqual(own.saved.find(([, parameter]) => parameter === HEAD), [HEAD, HEAD]);
  assert.deepEqual([...renamed.said, ...own.said], []);
  await assert.rejects(
    opened(new Map([...tensors, ["embed_out.weight", tensor(1)]]), keys),
    /"lm_head.weight" and "embed_out.weight" are both there/,
  );
});

Deno.test("a type that is not trained is said to be the type, with tensor and file", async () => {
  for (const dtype of ["F64", "F8_E4M3", "I8"] as const) {
    const says = [
      new RegExp(
        `model.safetensors: tensor "model.norm.weight" is of type ${dtype}, which is not trained: expected F32`,
      ),
      dtype === "F64" ? /in float32 with transformers/ : /before it was quantized/,
    ];
    await refused(usual().set("model.norm.weight", tensor(1, [4], dtype)), {}, ...says);
    // Packed weights have other shapes too: the type is what explains them.
    await refused(usual().set("model.norm.weight", tensor(1, [2], dtype)), {}, ...says);
  }
  const all = new Map([...usual()].map(([name, { shape }]) => [name, tensor(1, shape, "F64")]));
  await refused(all, {}, /\(21 tensors are of F64\)/);
  const packed = renamedBy(usual(), (name) => name.replace("q_proj.weight", "q_proj.qweight"));
  packed.set("model.layers.0.self_attn.q_proj.qweight", tensor(0, [1, 4], "I32"));
  await refused(
    packed,
    {},
    /q_proj.weight: missing/,
    /"\S+q_proj.qweight" is of type I32, .* are they quantized\?/,
  );
});

Deno.test("what is missing or of another shape is named with what is there", async () => {
  await refused(
    withoutHead(),
    {},
    /lm_head.weight: missing, expected shape \[3,4\] \(tie_word_embeddings: true would/,
  );
  await refused(usual().set(HEAD, tensor(1, [4, 4])), {}, /lm_head.weight: shape \[4,4\], expected \[3,4\]/);
  // A head that is tied is not left unlooked at.
  await refused(
    usual().set(HEAD, tensor(1, [4, 4])),
    { tie_word_embeddings: true },
    /lm_head.weight: shape \[4,4\]/,
  );
  await refused(
    new Map([["transformer.wte.weight", tensor(1)]]),
    {},
    /and 13 more/,
    /The files hold "transformer.wte.weight"/,
  );
});

Deno.test("an adapter beside the weights is refused by its file", () =>
  withTemporaryFolder(async (folder) => {
    await saveCheckpoint(folder, [...usual()].map(sourceOf));
    await writeFile(join(folder, "config.json"), JSON.stringify(SHAPE));
    await writeFile(join(folder, "adapter_config.json"), "{}");
    await assert.rejects(openModel(folder), {
      name: "UserError",
      message: /adapter_config.json: the folder is of adapters/,
    });
  }));

Deno.test("a lone shard is read without an index, which is said, and a file of another name is named", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "config.json"), JSON.stringify(SHAPE));
    assert.equal((await readModel(folder)).vocabSize, 3);
    const [lone, other] = ["model-00001-of-00001.safetensors", "consolidated.safetensors"].map((name) =>
      join(folder, name)
    );
    await writeSafetensors(lone, [...usual()].map(sourceOf));
    const said: string[] = [];
    await (await openModel(folder, (message) => said.push(message))).close();
    assert.equal(said.length, 1);
    assert.match(
      said[0],
      /model-00001-of-00001.safetensors is read, though there is no model.safetensors.index.json/,
    );
    await rename(lone, other);
    await assert.rejects(openModel(folder), {
      message: /found neither. There is "consolidated.safetensors": as in transformers/,
    });
  }));

Deno.test("a shard's tensors are read where the index does not name them, and refused where two shards have them", () =>
  withTemporaryFolder(async (parent) => {
    const folder = join(parent, "model");
    await mkdir(folder);
    await writeFile(join(folder, "config.json"), JSON.stringify(SHAPE));
    const all = [...usual()].map(sourceOf);
    const write = (i: number, part: typeof all) =>
      writeSafetensors(join(folder, `model-0000${i}-of-00002.safetensors`), part);
    await write(1, all.slice(0, 10));
    await write(2, all.slice(10));
    const weight_map = {
      [all[0].name]: "model-00001-of-00002.safetensors",
      [all[10].name]: "model-00002-of-00002.safetensors",
    };
    await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
    const weights = await openModel(folder);
    assert.equal(weights.tensors.size, 21);
    await weights.close();
    await write(2, all.slice(9));
    await assert.rejects(openModel(folder), {
      message: /model-00002-of-00002.safetensors: tensor "\S+" is in \S+model-00001-of-00002.safetensors too/,
    });
  }));

/** The tensors of the model with other keys. */
const tensorsOf = (keys: Record<string, unknown>): Tensors =>
  new Map(
    [...partsOf(netOf(parseModelConfig({ ...SHAPE, ...keys }, "")).parameters)]
      .map(([name, shape], i) => [name, tensor(i + 1, shape)]),
  );

Deno.test("a value of config.json that the tensors contradict is told, with theirs", async () => {
  const cases: [there: Record<string, unknown>, keys: Record<string, unknown>, ...says: string[]][] = [
    [{ vocab_size: 5 }, {}, "vocab_size is 3, but model.embed_tokens.weight has 5 rows"],
    [
      { hidden_size: 6, head_dim: 2 },
      { head_dim: 2 },
      "hidden_size is 4, but model.embed_tokens.weight has 6 columns",
    ],
    [
      { intermediate_size: 3 },
      {},
      "intermediate_size is 2, but model.layers.0.mlp.gate_proj.weight has 3 rows",
    ],
    [
      { num_key_value_heads: 1 },
      {},
      "num_key_value_heads is 2, but model.layers.0.self_attn.k_proj.weight has 2 rows, as of 1",
    ],
    [{ num_hidden_layers: 1 }, {}, "num_hidden_layers is 2, but the files have 1"],
    [{}, { num_hidden_layers: 1000 }, "num_hidden_layers is 1000, but the files have 2"],
    [{}, { mlp_bias: true }, "mlp_bias is true, but model.layers.0.mlp.gate_proj.bias is missing"],
    [
      { vocab_size: 5, intermediate_size: 3, num_hidden_layers: 1 },
      {},
      "num_hidden_layers is 2, but the files have 1",
      "vocab_size is 3, but model.embed_tokens.weight has 5 rows",
      "intermediate_size is 2, but model.layers.0.mlp.gate_proj.weight has 3 rows",
    ],
  ];
  for (const [there, keys, ...says] of cases) {
    const error: Error = await opened(tensorsOf(there), keys).then(
      () => assert.fail("no error"),
      (error) => error,
    );
    assert.ok(error instanceof UserError, error.stack);
    const [first, ...lines] = error.message.split("\n  ");
    assert.match(first, /the weights do not fit config.json:$/);
    lines[lines.length - 1] = lines.at(-1)!.split("\nare both of the same model?")[0];
    assert.deepEqual(lines.toSorted(), says.toSorted());
  }
  // What no one value explains is told tensor by tensor.
  await refused(
    tensorsOf({ vocab_size: 5 }).set("model.norm.weight", tensor(1, [9])),
    {},
    /vocab_size is 3, but model.embed_tokens.weight has 5 rows\n {2}model.norm.weight: shape \[9\], expected \[4\]\n/,
  );
});

Deno.test("a dtype that config.json does not name is the index's, or that of the files' first tensor", () =>
  withTemporaryFolder(async (folder) => {
    for (const [name, dtype] of [["tied-llama3-bf16-sharded", "bfloat16"], ["untied", "float32"]]) {
      const model = join(folder, name);
      await cp(`tests/golden/llama/${name}`, model, { recursive: true });
      const { dtype: _, torch_dtype: __, ...config } = JSON.parse(
        await readFile(join(model, "config.json"), "utf8"),
      );
      await writeFile(join(model, "config.json"), JSON.stringify(config));
      assert.equal((await readModel(model)).dtype, dtype);
      if (dtype === "bfloat16") {
        const path = join(model, "model.safetensors.index.json");
        const index = JSON.parse(await readFile(path, "utf8"));
        const name = (dtype: unknown) =>
          writeFile(path, JSON.stringify({ ...index, metadata: { ...index.metadata, dtype } }));
        await name("float32");
        assert.equal((await readModel(model)).dtype, "float32");
        for (const other of ["float99", null]) {
          await name(other);
          await assert.rejects(
            readModel(model),
            /metadata\.dtype .*: expected bfloat16 or .*, found ("float99"|null): /,
          );
        }
        await writeFile(path, JSON.stringify({ ...index, metadata: { dtype: "float32" } }));
      }
      // What config.json names counts, whatever is there.
      await writeFile(join(model, "config.json"), JSON.stringify({ ...config, dtype: "float16" }));
      assert.equal((await readModel(model)).dtype, "float16");
    }
  }));
