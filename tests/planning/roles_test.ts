/**
 * Which parameters a run trains, by the patterns of `unfrozen_parameters`; and such a run from its first step to its
 * files.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { isTrained } from "../../lib/parameters/parameter.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netToTrain } from "../../lib/planning/roles.ts";
import { fromF32 } from "../../lib/safetensors/dtype.ts";
import { openCheckpoint, openSafetensors } from "../../lib/safetensors/read.ts";
import { saveCheckpoint } from "../../lib/safetensors/write.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal, run, stopAt, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const untied = await readModelConfig(`${GOLDEN}/untied`);
const tied = await readModelConfig(`${GOLDEN}/tied-llama3-bf16-sharded`);
const trained = (patterns?: string[], model = untied) =>
  netToTrain(model, patterns).parameters.filter(isTrained).flatMap(({ parts }) =>
    parts.map(({ name }) => name)
  );
const refused = (patterns: string[], model = untied): string => {
  try {
    netToTrain(model, patterns);
  } catch (error) {
    assert.ok(error instanceof UserError && error.status === 2);
    return error.message;
  }
  return assert.fail("no error");
};

Deno.test("patterns name what is trained as in axolotl: from a name's beginning on, full stops as they are", () => {
  const every = netToTrain(untied, undefined).parameters.length;
  for (const patterns of [undefined, []]) {
    assert.equal(netToTrain(untied, patterns).parameters.filter(isTrained).length, every);
  }
  assert.deepEqual(trained(["^lm_head.weight$"]), ["lm_head.weight"]);
  assert.deepEqual(trained(["lm_head", "model.norm"]), ["model.norm.weight", "lm_head.weight"]);
  assert.deepEqual(trained(["model.layers.[1-9].mlp"]), [
    "model.layers.1.mlp.gate_proj.weight",
    "model.layers.1.mlp.up_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
  ]);
  const norms = ["model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"];
  assert.deepEqual(trained(["model\\.layers.[0-9]+.input_layernorm"]), norms);
  assert.deepEqual(trained(["model.layers.+input_layernorm"]), norms);
  // A tied head is the embedding.
  assert.deepEqual(trained(["model.embed_tokens"], tied), ["model.embed_tokens.weight"]);
});

Deno.test("patterns that fit nothing, or one part of a matrix, are refused, all at once", () => {
  assert.match(
    refused(["norm", "model.nrom"]),
    /^unfrozen_parameters: "norm" fits none of the \d+ parameters: "model.embed_tokens.weight", .* are some\nunfrozen_parameters: "model.nrom"/,
  );
  assert.match(refused(["^lm_head.weight$"], tied), /fits none.* are some$/);
  // Not any character.
  assert.match(refused(["model.layers.0.self.attn"]), /fits none.* a full stop stands for itself here/);
  assert.match(
    refused([".*norm"]),
    /fits none.* a full stop stands for itself here, as in axolotl: \.\+ is any text/,
  );
  assert.deepEqual(refused(["model.layers.0.self_attn.[qv]_proj", "model.norm"]).split("\n"), [
    "unfrozen_parameters: model.layers.0.self_attn.q_proj.weight and model.layers.0.self_attn.v_proj.weight would be trained " +
    "and model.layers.0.self_attn.k_proj.weight not: they are kept and trained as one here, so name all of them or none",
  ]);
});

Deno.test("a pattern that backtracks without an end is stopped, and named", () => {
  const start = performance.now();
  assert.match(
    refused(["model.norm", "(.+.+)+!"]),
    /^unfrozen_parameters: "\(\.\+\.\+\)\+!" has not come to an end after 3 s: stopped\. Look for a repetition/,
  );
  assert.ok(performance.now() - start < 20_000);
});

Deno.test("a run with frozen parameters in 4 bits saves them as they were, and resumes to the same bits", () =>
  withTemporaryFolder(async (folder) => {
    const model = `${GOLDEN}/tied-llama3-bf16-sharded`;
    const words = [
      `--model_name_or_path=${model}`,
      "--max_steps=2",
      "--save_steps=1",
      '--unfrozen_parameters=["model.layers.1", "model.norm"]',
      "--load_in_4bit=true",
      "--use_bnb_nested_quant=true",
    ];
    const out = join(folder, "whole");
    const said: string[] = [];
    await run(out, words, { onLog: (_, message) => said.push(message) });
    assert.ok(said.some((message) => /^memory plan of \d+ parameters, \d+ of them trained/.test(message)));
    const [before, after] = [await openCheckpoint(model), await openCheckpoint(out)];
    let changed = 0;
    for (const name of before.tensors.keys()) {
      const [was, is] = [await before.readF32(name), await after.readF32(name)];
      if (!/^model\.(layers\.1\.|norm)/.test(name)) assertEqualBytes(is, was, name);
      else if (is.some((value, i) => value !== was[i])) changed++;
    }
    assert.ok(changed > 0);
    for (const file of [before, after]) await file.close();
    // Neither moments nor float32 copies of what is frozen.
    const state = await openSafetensors(join(out, "checkpoint-2", "optimizer.safetensors"));
    assert.ok([...state.tensors.keys()].every((name) => /\.model\.(layers\.1\.|norm)/.test(`.${name}`)));
    await state.close();

    const again = join(folder, "again");
    await stopAt(1, again, words);
    assert.match(
      await refusal(run(again, [...words, '--unfrozen_parameters=["model.norm"]'])),
      /unfrozen_parameters: \["model.layers.1", "model.norm"\] there, \["model.norm"\] now/,
    );
    await run(again, words);
    assertEqualBytes(await weightsOf(again), await weightsOf(out));
  }));

Deno.test("a frozen embedding in 16 bits, of which the GPU has rows alone, is saved as it was, and resumes", () =>
  withTemporaryFolder(async (folder) => {
    const model = join(folder, "model");
    await Deno.mkdir(model);
    for (const { name } of Deno.readDirSync(`${GOLDEN}/untied`)) {
      if (!name.endsWith(".safetensors")) await Deno.copyFile(`${GOLDEN}/untied/${name}`, join(model, name));
    }
    const weights = await openCheckpoint(`${GOLDEN}/untied`);
    await saveCheckpoint(
      model,
      [...weights.tensors].map(([name, { shape }]) => ({
        ...{ name, shape, dtype: "BF16" },
        chunks: async function* () {
          yield fromF32(await weights.readF32(name), "BF16");
        },
      })),
    );
    await weights.close();
    const words = [
      `--model_name_or_path=${model}`,
      ...["--max_steps=2", "--save_steps=1", "--unfrozen_parameters=[model.layers]", "--prompts=[]"],
    ];
    const [out, again] = [join(folder, "whole"), join(folder, "again")];
    await run(out, words);
    await stopAt(1, again, words);
    await run(again, words);
    assertEqualBytes(await weightsOf(again), await weightsOf(out));
    const name = "model.embed_tokens.weight";
    const before = await openCheckpoint(model);
    for (const saved of [out, join(out, "checkpoint-2")]) {
      const after = await openCheckpoint(saved);
      assert.equal(after.tensors.get(name)!.dtype, "BF16");
      assertEqualBytes(await after.readBytes(name), await before.readBytes(name), saved);
      await after.close();
    }
    await before.close();
  }));
