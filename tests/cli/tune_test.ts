/** How an adapter computes products, as `simper tune` shows it, and takes it to another machine's cache. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openGpu } from "../../lib/gpu/device.ts";
import { SHAPE_CLASSES, usualTuning } from "../../lib/gpu/tuning.ts";
import { rememberedTuning, rememberTuning } from "../../lib/planning/remembered_tuning.ts";
import { taskWith } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("tune shows what is remembered, and what it writes is taken over by a machine with such an adapter", () =>
  withTemporaryFolder(async (folder) => {
    const gpu = await openGpu();
    gpu.destroy();
    const [here, there] = ["here", "there"].map((name) => join(folder, name));
    const tune = (cache: string, ...words: string[]) => taskWith({ SIMPER_CACHE: cache }, "tune", ...words);
    const nothing = await tune(here, "--show");
    assert.deepEqual([nothing.status, nothing.stdout], [1, ""]);
    assert.match(nothing.stderr, /^error: nothing is remembered of .*: `simper tune` measures it$/m);

    // Another than the usual way.
    const tiles = usualTuning("software");
    tiles.buffer["nn wide"] = "storage 8x8";
    tiles.textured = SHAPE_CLASSES.filter((shape) => shape !== "nn wide");
    const rates = (["storage 8x8", "texture"] as const).map((way, i) => (
      { shape: "nn wide" as const, way, rate: (2 - i) * 1e9 }
    ));
    const remembered = await rememberTuning(gpu, here, tiles, rates);
    const file = join(folder, "tuning.json");
    const shown = await tune(here, "--show", `--output=${file}`);
    assert.deepEqual([shown.status, shown.stderr], [0, ""]);
    assert.ok(shown.stdout.startsWith(gpu.name), shown.stdout);
    assert.match(
      shown.stdout,
      /^GFLOP\/s +nn wide\nstorage 8x8 +4\.00 \*\ntexture +2\.00\n\ntexture: nt wide, .*\nstorage 8x8: nn wide\n/m,
    );
    assert.match(shown.stdout, /^activations and rotations: after the products$/m);

    const cached = join(here, "tuning.json");
    const before = await Deno.readTextFile(cached);
    for (
      const [output, says] of [
        [join(here, ".", "tuning.json"), /--output: \S+tuning\.json is what the cache remembers/],
        [folder, /--output: \S+ is a folder, expected a file$/m],
      ] as const
    ) {
      const unwritten = await tune(here, "--show", `--output=${output}`);
      assert.deepEqual([unwritten.status, unwritten.stdout], [2, ""]);
      assert.match(unwritten.stderr, says);
    }
    assert.equal(await Deno.readTextFile(cached), before);

    const taken = await tune(there, file);
    assert.deepEqual([taken.status, taken.stdout], [0, shown.stdout], taken.stderr);
    assert.deepEqual(await rememberedTuning(gpu, there), remembered);
    const foreign = { ...remembered, adapter: "another" };
    await Deno.writeTextFile(file, JSON.stringify(foreign));
    const refused = await tune(there, file);
    assert.deepEqual([refused.status, refused.stdout], [2, ""]);
    assert.match(refused.stderr, /^error: \S+tuning\.json: adapter: expected ".*", found "another"$/m);
    assert.deepEqual(await rememberedTuning(gpu, there), remembered);
  }));
