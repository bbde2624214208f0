import assert from "node:assert/strict";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseSafetensorsMetadata } from "npm:@huggingface/hub@^2.17.5";
import { type Dtype, DTYPE_BITS } from "../../lib/safetensors/dtype.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { saveCheckpoint, type TensorSource, writeSafetensors } from "../../lib/safetensors/write.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const REFERENCE = new URL("../golden/files/reference.safetensors", import.meta.url);

function source(name: string, dtype: Dtype, shape: number[], bytes: ArrayLike<number>): TensorSource {
  return { name, dtype, shape, chunks: () => [Uint8Array.from(bytes)] };
}

/** mulberry32: whole numbers below `limit`, the same in every run. */
function randomNumbers(seed: number): (limit: number) => number {
  return (limit) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** Tensors of random names, dtypes, shapes (scalars and empty ones too) and bytes, given in random pieces. */
function randomTensors(random: (limit: number) => number): { tensors: TensorSource[]; bytes: Uint8Array[] } {
  const dtypes = Object.keys(DTYPE_BITS) as Dtype[];
  const tensors: TensorSource[] = [];
  const bytes: Uint8Array[] = [];
  for (let i = random(8); i > 0; i--) {
    const dtype = dtypes[random(dtypes.length)];
    const shape = Array.from({ length: random(4) }, () => random(5));
    if (DTYPE_BITS[dtype] < 8) shape.push(4);
    const size = shape.reduce((product, dimension) => product * dimension, DTYPE_BITS[dtype]) / 8;
    const data = Uint8Array.from({ length: size }, () => random(256));
    const cut = random(size + 1);
    const name = `${["__proto__", 'a"\\b', "層.0", "7", "model.norm.weight"][random(5)]}.${i}`;
    tensors.push({ name, dtype, shape, chunks: () => [data.subarray(0, cut), data.subarray(cut)] });
    bytes.push(data);
  }
  return { tensors, bytes };
}

Deno.test("openCheckpoint() reads a file of the reference implementation", () =>
  withTemporaryFolder(async (folder) => {
    await cp(REFERENCE, join(folder, "model.safetensors"));
    const checkpoint = await openCheckpoint(folder);
    const kinds = [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]);
    assert.deepEqual(
      new Set(kinds.map((kind) => JSON.stringify(kind))),
      new Set([
        '["counts","I64",[2]]',
        '["empty","F32",[0,4]]',
        '["scalar","F32",[]]',
        '["weight","F32",[2,3]]',
        '["brain","BF16",[3,1]]',
        '["half","F16",[3]]',
        '["ключ \\"1\\"","BOOL",[3]]',
      ]),
    );
    assertEqualBytes(
      await checkpoint.readF32("weight"),
      Float32Array.of(1.5, -0, 2 ** -149, Infinity, 3.4028234663852886e38, 0.1),
    );
    assertEqualBytes(
      await checkpoint.readF32("weight", 3, 2),
      Float32Array.of(Infinity, 3.4028234663852886e38),
    );
    assertEqualBytes(await checkpoint.readF32("weight", 5), Float32Array.of(0.1));
    assertEqualBytes(await checkpoint.readF32("scalar"), Float32Array.of(2.5));
    assertEqualBytes(await checkpoint.readF32("empty"), Float32Array.of());
    assertEqualBytes(await checkpoint.readF32("half"), Float32Array.of(65504, 2 ** -24, -1));
    // The nearest bf16 to 1e-40 is subnormal: 1 of 2^-133.
    assertEqualBytes(await checkpoint.readF32("brain"), Float32Array.of(3, 2 ** -133, -Infinity));
    assertEqualBytes(
      await checkpoint.readBytes("counts", 8),
      Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0),
    );
    assertEqualBytes(await checkpoint.readBytes('ключ "1"'), Uint8Array.of(1, 0, 1));
    await checkpoint.close();
  }));

Deno.test("writeSafetensors() writes the bytes of the reference implementation", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    await cp(REFERENCE, path);
    const checkpoint = await openCheckpoint(folder);
    const infos = [...checkpoint.tensors.values()];
    const tensors = await Promise.all(
      infos.map(async ({ name, dtype, shape }) =>
        source(name, dtype, shape, await checkpoint.readBytes(name))
      ),
    );
    await checkpoint.close();
    await writeSafetensors(path, tensors);
    assertEqualBytes(await readFile(path), await readFile(REFERENCE));
    assert.deepEqual(await readdir(folder), ["model.safetensors"]);
  }));

Deno.test("random tensors come back as written, and @huggingface/hub reads the same header", async () => {
  const random = randomNumbers(1);
  for (let round = 0; round < 60; round++) {
    await withTemporaryFolder(async (folder) => {
      const { tensors, bytes } = randomTensors(random);
      const path = join(folder, "model.safetensors");
      await writeSafetensors(path, tensors, { metadata: { format: "pt", round: String(round) } });
      const file = await readFile(path);
      const { header } = await parseWithHub(file);
      assert.deepEqual(header.__metadata__, { format: "pt", round: String(round) });
      assert.equal(Object.keys(header).length, tensors.length + 1);

      const checkpoint = await openCheckpoint(folder);
      assert.equal(checkpoint.tensors.size, tensors.length);
      for (const [i, { name, dtype, shape }] of tensors.entries()) {
        const { start, end, ...info } = checkpoint.tensors.get(name)!;
        assert.deepEqual(info, { name, dtype, shape, file: path });
        // PyTorch cannot view a tensor that begins within an element.
        assert.equal(start % Math.ceil(DTYPE_BITS[dtype] / 8), 0);
        const dataStart = 8 + Number(file.readBigUInt64LE(0));
        const { data_offsets, ...rest } = header[name];
        assert.deepEqual(rest, { dtype, shape });
        assert.deepEqual(data_offsets, [start - dataStart, end - dataStart]);
        assertEqualBytes(await checkpoint.readBytes(name), bytes[i]);
        const first = random(bytes[i].length + 1);
        const count = random(bytes[i].length - first + 1);
        assertEqualBytes(
          await checkpoint.readBytes(name, first, count),
          bytes[i].slice(first, first + count),
        );
      }
      await checkpoint.close();
    });
  }
});

/** The header of a file as @huggingface/hub parses it, from memory in place of its server. */
function parseWithHub(file: Uint8Array) {
  const fetch = (_url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get("range") ?? "");
    const [first, last] = range ? [Number(range[1]), Number(range[2])] : [0, file.length - 1];
    const body = file.slice(first, last + 1);
    const headers = {
      "content-length": String(body.length),
      "content-range": `bytes ${first}-${first + body.length - 1}/${file.length}`,
      etag: '"0"',
    };
    return Promise.resolve(new Response(body, { status: range ? 206 : 200, headers }));
  };
  return parseSafetensorsMetadata({ repo: "a/b", path: "model.safetensors", fetch }) as Promise<
    { header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }> }
  >;
}

Deno.test("saveCheckpoint() splits into shards as transformers does", () =>
  withTemporaryFolder(async (folder) => {
    // Sizes 6, 6, 2, 6, 2, 2 with a limit of 10: the example in huggingface_hub's
    // split_state_dict_into_shards_factory.
    const sizes = [6, 6, 2, 6, 2, 2];
    const tensors = sizes.map((size, i) => source(`t${i}`, "U8", [size], new Uint8Array(size).fill(i)));
    await writeFile(join(folder, "model.safetensors"), "of an earlier save");
    await writeFile(join(folder, "model-00001-of-00009.safetensors"), "of an earlier save");
    await saveCheckpoint(folder, tensors, { maxShardBytes: 10 });
    const files = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
    assert.deepEqual((await readdir(folder)).sort(), [...files, "model.safetensors.index.json"]);
    const index = await readFile(join(folder, "model.safetensors.index.json"), "utf8");
    assert.equal(
      index,
      `{
  "metadata": {
    "total_parameters": 24,
    "total_size": 24
  },
  "weight_map": {
    "t0": "${files[0]}",
    "t1": "${files[1]}",
    "t2": "${files[1]}",
    "t3": "${files[2]}",
    "t4": "${files[2]}",
    "t5": "${files[2]}"
  }
}
`,
    );
    const checkpoint = await openCheckpoint(folder);
    assert.deepEqual(checkpoint.files, files.map((file) => join(folder, file)));
    for (const [i, size] of sizes.entries()) {
      assertEqualBytes(await checkpoint.readBytes(`t${i}`), new Uint8Array(size).fill(i));
    }
    await checkpoint.close();
  }));

Deno.test("saveCheckpoint() gives a tensor above the limit a shard of its own", () =>
  withTemporaryFolder(async (folder) => {
    const tensors = [3, 9, 3].map((size, i) => source(`t${i}`, "U8", [size], new Uint8Array(size)));
    await saveCheckpoint(folder, tensors, { maxShardBytes: 6 });
    const { weight_map: map } = JSON.parse(
      await readFile(join(folder, "model.safetensors.index.json"), "utf8"),
    );
    assert.deepEqual(map, {
      t0: "model-00002-of-00002.safetensors",
      t1: "model-00001-of-00002.safetensors",
      t2: "model-00002-of-00002.safetensors",
    });
  }));

Deno.test("saveCheckpoint() writes one file where it fits, in place of shards of an earlier save", () =>
  withTemporaryFolder(async (folder) => {
    const tensors = [source("a", "U8", [4], [1, 2, 3, 4]), source("b", "U8", [4], [5, 6, 7, 8])];
    await saveCheckpoint(folder, tensors, { maxShardBytes: 4 });
    assert.equal((await readdir(folder)).length, 3);
    await saveCheckpoint(folder, tensors, { maxShardBytes: 8 });
    assert.deepEqual(await readdir(folder), ["model.safetensors"]);
  }));

Deno.test("writeSafetensors() keeps the earlier file when a tensor yields the wrong size or an error", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    await writeFile(path, "earlier");
    await assert.rejects(
      writeSafetensors(path, [source("a", "F32", [2], new Uint8Array(7))]),
      /tensor a: expected 8 bytes, found 7/,
    );
    await assert.rejects(
      writeSafetensors(path, [source("a", "F32", [2], new Uint8Array(9))]),
      /tensor a: expected 8 bytes, found more/,
    );
    const failing = {
      ...source("a", "F32", [2], []),
      chunks: () => {
        throw new Error("device lost");
      },
    };
    await assert.rejects(writeSafetensors(path, [failing]), /device lost/);
    const twice = source("a", "U8", [1], [0]);
    await assert.rejects(writeSafetensors(path, [twice, twice]), /"a" comes twice/);
    await assert.rejects(
      writeSafetensors(path, [source("a", "U8", [-1], [0])]),
      /shape \[-1\] in U8 has no size/,
    );
    assert.deepEqual(await readdir(folder), ["model.safetensors"]);
    assert.equal(await readFile(path, "utf8"), "earlier");
  }));

Deno.test("reads that run at the same time do not disturb each other", () =>
  withTemporaryFolder(async (folder) => {
    const values = Uint32Array.from({ length: 1 << 16 }, (_, i) => i);
    await saveCheckpoint(folder, [source("t", "U32", [1 << 16], new Uint8Array(values.buffer))]);
    const checkpoint = await openCheckpoint(folder);
    await Promise.all(Array.from({ length: 200 }, async (_, i) => {
      const first = (i * 7919) % 60000;
      const bytes = await checkpoint.readBytes("t", first * 4, 4000);
      assertEqualBytes(new Uint32Array(bytes.buffer), values.slice(first, first + 1000));
    }));
    await checkpoint.close();
    await assert.rejects(checkpoint.readBytes("t"), /read after close/);
  }));
