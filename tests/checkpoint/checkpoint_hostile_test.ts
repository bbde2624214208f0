import assert from "node:assert/strict";
import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { saveCheckpoint } from "../../lib/safetensors/write.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { assertRefused, entry, file } from "../hostile_safetensors.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("openCheckpoint() refuses a missing folder, and one without weights", () =>
  withTemporaryFolder(async (folder) => {
    await assertRefused(join(folder, "nowhere"), /no such folder/);
    await writeFile(join(folder, "file"), "");
    await assertRefused(join(folder, "file"), /no such folder/);
    await assertRefused(folder, /expected model.safetensors or model.safetensors.index.json, found neither/);
    await mkdir(join(folder, "model.safetensors"));
    await assertRefused(folder, /found neither/);
  }));

Deno.test("openCheckpoint() says why it does not read pytorch_model.bin", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "pytorch_model.bin"), "");
    await assertRefused(
      folder,
      /pickled files are not read, because loading one can run any code/,
      /save_pretrained/,
    );
  }));

/** Tests that a folder with this index, and the shard s1.safetensors holding `a`, is refused. */
function testIndexRefused(name: string, index: unknown, ...messages: RegExp[]): void {
  Deno.test(`openCheckpoint() refuses ${name}`, () =>
    withTemporaryFolder(async (parent) => {
      const folder = join(parent, "model");
      await mkdir(folder);
      for (const shard of [join(folder, "s1.safetensors"), join(parent, "outside.safetensors")]) {
        await writeFile(shard, file({ a: entry("U8", [1], [0, 1]) }, 1));
      }
      const text = typeof index === "string" ? index : JSON.stringify(index);
      await writeFile(join(folder, "model.safetensors.index.json"), text);
      await assertRefused(folder, ...messages);
    }));
}

const map = (weight_map: unknown) => ({ metadata: {}, weight_map });
testIndexRefused("an index that is not JSON", "{", /index.json: cannot be read as JSON/);
testIndexRefused("an index without a weight_map", {}, /expected an object "weight_map"/);
testIndexRefused("an index that is a list", [], /expected an object "weight_map"/);
testIndexRefused("a weight_map that is a list", map(["s1.safetensors"]), /expected an object "weight_map"/);
testIndexRefused(
  "a shard that is missing",
  map({ a: "s1.safetensors", b: "s2.safetensors" }),
  /1 of its 2 shards missing from the folder: s2.safetensors/,
);
testIndexRefused(
  "a tensor that its shard lacks",
  map({ a: "s1.safetensors", b: "s1.safetensors", c: "s1.safetensors" }),
  /tensor "b" is not in its shard s1.safetensors, and 1 more/,
);
for (
  const shard of [
    "../outside.safetensors",
    "/etc/outside.safetensors",
    "..\\outside.safetensors",
    "C:outside.safetensors",
    "s1.safetensors\0.safetensors",
    "s1.bin",
    "",
    7,
    null,
    { file: "s1.safetensors" },
  ]
) {
  testIndexRefused(
    `the shard name ${JSON.stringify(shard)}`,
    map({ a: shard }),
    /tensor "a": expected the name of a .safetensors file in the same folder/,
  );
}

Deno.test("openCheckpoint() reads files through links, as the cache of the Hub lays them out", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "blob"), file({ a: entry("U8", [1], [0, 1]) }, 1));
    await symlink("blob", join(folder, "model.safetensors"));
    const checkpoint = await openCheckpoint(folder);
    assertEqualBytes(await checkpoint.readBytes("a"), Uint8Array.of(0));
    await checkpoint.close();
  }));

Deno.test("a read names the file, the tensor and what is wrong", () =>
  withTemporaryFolder(async (folder) => {
    const bytes = new Uint8Array(8);
    await saveCheckpoint(folder, [
      { name: "model.norm.weight", dtype: "F32", shape: [2], chunks: () => [bytes] },
      { name: "steps", dtype: "I64", shape: [], chunks: () => [bytes] },
    ]);
    const checkpoint = await openCheckpoint(folder);
    await assert.rejects(
      checkpoint.readF32("model.norm.weights"),
      { name: "UserError", message: /no tensor "model.norm.weights" in .*; is it "model.norm.weight"\?/ },
    );
    await assert.rejects(checkpoint.readBytes("__proto__"), UserError);
    await assert.rejects(
      checkpoint.readF32("steps"),
      {
        name: "UserError",
        message: /model.safetensors: tensor "steps": expected dtype F32, F16 or BF16, found I64/,
      },
    );
    for (
      const [first, count] of [[0, 3], [2, 1], [3, undefined], [-1, 1], [0, -1], [0.5, 1], [NaN, 1]] as const
    ) {
      await assert.rejects(checkpoint.readF32("model.norm.weight", first, count), RangeError);
    }
    await truncate(join(folder, "model.safetensors"), 100);
    await assert.rejects(
      checkpoint.readF32("model.norm.weight"),
      { name: "UserError", message: /became shorter while it was read/ },
    );
    await checkpoint.close();
  }));

Deno.test("saveCheckpoint() says where it cannot write", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "file"), "");
    await assert.rejects(saveCheckpoint(join(folder, "file"), []), {
      name: "UserError",
      message: /file: cannot be written/,
    });
    await mkdir(join(folder, "model.safetensors", "in the way"), { recursive: true });
    await assert.rejects(saveCheckpoint(folder, []), { name: "UserError", message: /cannot be written/ });
  }));
