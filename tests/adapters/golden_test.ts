/** Runs that train adapters, beside PEFT's: tests/golden/adapters (its make.py says how they were made). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkAdapter, openAdapter } from "../../lib/adapters/open.ts";
import { merged, mergedSources } from "../../lib/adapters/merge.ts";
import { openFound } from "../../lib/adapters/model.ts";
import { pack } from "../../lib/batch/pack.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { netOf } from "../../lib/models/models.ts";
import { fromF32 } from "../../lib/safetensors/dtype.ts";
import { openSafetensors } from "../../lib/safetensors/read.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { sharedGpu } from "../shared_gpu.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = "tests/golden/adapters";
/** Adapters by name, with the model that they are of. */
const ADAPTERS = {
  lora: "tests/golden/llama/untied",
  dora: "tests/golden/llama/untied",
  ranks: "tests/golden/llama/untied",
  gpt_neox: "tests/golden/models/gpt_neox",
  phi3: "tests/golden/models/phi3",
  bfloat16: "tests/golden/llama/tied-llama3-bf16-sharded",
};
type Name = keyof typeof ADAPTERS;

/** Trains adapters as golden.py did. */
const overrides = (name: Name) => [
  `--model_name_or_path=${ADAPTERS[name]}`,
  "--use_peft",
  `--adapter_name_or_path=${GOLDEN}/${name}`,
  "--max_steps=8",
  "--save_strategy=no",
  // golden.py does not decay magnitudes, as transformers' Trainer does.
  `--weight_decay=${name === "dora" ? 0 : 0.01}`,
];

for (const name of ["lora", "dora", "ranks", "gpt_neox", "phi3"] as const) {
  Deno.test(`${name}: eight steps from PEFT's adapters are those of PEFT and PyTorch`, async () => {
    const log = JSON.parse(await Deno.readTextFile(join(GOLDEN, name, "log.json")));
    await withTemporaryFolder(async (folder) => {
      const out = join(folder, "out");
      const { history } = await run(out, overrides(name));
      const entries = history.filter((entry) => "loss" in entry);
      for (const key of ["loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected"]) {
        const [found, expected] = [entries, log].map((list) =>
          list.map((entry: Record<string, number>) => entry[key])
        );
        // Of losses that are differences of numbers some hundred times as large, by those.
        const scale = key === "loss" ? 100 : 1;
        assert.ok(relativeDifference(found, expected) < 1e-4 * scale, `${key}: ${found} and ${expected}`);
      }
      const [start, found, expected] = await Promise.all(
        [join(GOLDEN, name, "adapter_model"), join(out, "adapter_model"), join(GOLDEN, name, "final")].map((
          file,
        ) => readTensors(`${file}.safetensors`)),
      );
      assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
      for (const [tensor, values] of expected) {
        const before = start.get(tensor)!;
        assert.ok(relativeDifference(found.get(tensor)!, values) < 1e-4, tensor);
        // How far it has come, by how far it had to.
        const way = (to: Float32Array) => to.map((value, i) => value - before[i]);
        const off = relativeDifference(way(found.get(tensor)!), way(values));
        assert.ok(off < 0.05, `${tensor}: ${off} of its way`);
      }
      assert.equal(await Deno.stat(join(out, "model.safetensors")).catch(() => "none"), "none");
    });
  });
}

for (const name of Object.keys(ADAPTERS) as Name[]) {
  Deno.test(`${name}: a model with adapters has PEFT's logits`, async () => {
    const gpu = await openGpu({ gpu: sharedGpu });
    const [{ chosen }] = (await readGolden("untied")).pairs;
    const model = await openFound({ folder: ADAPTERS[name], adapter: join(GOLDEN, name) });
    const capacity = {
      tokens: 96,
      labels: 96,
      pairs: 1,
      positions: 96,
      logitsBytes: 2 ** 20,
      checkpointing: false,
    };
    const options = { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: false };
    const decoder = new Decoder(netOf(model.model), capacity, options);
    await decoder.allocate(gpu, new Pipelines(gpu));
    await decoder.load(gpu, model);
    await model.close();
    const sequence = { ids: [...chosen.ids, 0], promptLength: 1 };
    const batch = pack([{ chosen: sequence, truncated: false, where: "" }], decoder.net.windows);
    const logits = await decoder.logits(gpu, { ...batch, pairs: 0, longest: chosen.ids.length });
    const expected = (await readTensors(join(GOLDEN, name, "logits.safetensors"))).get("logits")!;
    assert.ok(relativeDifference(logits.slice(-expected.length), expected) < 1e-5);
    decoder.destroy();
    gpu.destroy();
  });

  Deno.test(`${name}: merged adapters are PEFT's`, async () => {
    const expected = await openSafetensors(join(GOLDEN, name, "merged.safetensors"));
    const model = await openModel(ADAPTERS[name]);
    const adapter = await openAdapter(join(GOLDEN, name));
    checkAdapter(adapter, netOf(model.model));
    const sources = mergedSources(model, adapter);
    assert.deepEqual(sources.map(({ name }) => name), model.saved.map(({ name }) => name));
    for (const { name, dtype, shape } of expected.tensors.values()) {
      const source = sources.find((source) => source.name === name)!;
      assert.equal(source.dtype, dtype);
      const bytes = (await Array.fromAsync(source.chunks())).flatMap((chunk) => [...chunk]);
      const values = await expected.readF32(name);
      const reader = merged(model, adapter);
      const found = await reader.readF32(name);
      assert.ok(relativeDifference(found, values) < (dtype === "F32" ? 1e-6 : 0.004), name);
      // In pieces that begin within a row.
      assert.deepEqual(await reader.readF32(name, 5, shape[1]), found.slice(5, 5 + shape[1]));
      // Rounded once, as there: sums may fall to the other side of a tie.
      const rounded = await expected.readBytes(name);
      const different = bytes.filter((byte, i) => byte !== rounded[i]).length;
      if (dtype !== "F32") assert.ok(different < bytes.length / 1000, `${name}: ${different} bytes differ`);
      assert.deepEqual([...fromF32(found, dtype as "F32")], bytes);
    }
    for (const file of [expected, model, adapter]) await file.close();
  });
}
