/** What holds for every value, looked for with values that a person would not think of. */
import fc from "npm:fast-check@^4.10.2";
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join, posix, win32 } from "node:path";
import { gzipSync } from "node:zlib";
import { splitArguments } from "../lib/config/overrides.ts";
import { parseJson } from "../lib/data/python_json.ts";
import { readRows } from "../lib/data/read.ts";
import { checkFileName, isPortable } from "../lib/hub/repo.ts";
import { type Dtype, DTYPE_BITS, fromF32, tensorBytes, toF32 } from "../lib/safetensors/dtype.ts";
import { openCheckpoint } from "../lib/safetensors/read.ts";
import { saveCheckpoint } from "../lib/safetensors/write.ts";
import { assertEqualBytes } from "./equal_bytes.ts";
import { HOSTILE_NAMES } from "./fuzz/json.ts";
import { parsed } from "./run_file.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

const RUNS = { numRuns: 200 };

/** A tensor of any dtype and of up to some hundred elements. */
const tensor = fc.record({
  name: fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).filter((name) => name !== "__metadata__"),
  dtype: fc.constantFrom(...Object.keys(DTYPE_BITS) as Dtype[]),
  shape: fc.array(fc.nat({ max: 6 }), { maxLength: 4 }),
  fill: fc.nat({ max: 255 }),
}).filter(({ dtype, shape }) => tensorBytes(dtype, shape) !== undefined);

Deno.test("tensors of any names, dtypes and shapes are read as they were written, in one file or in shards", () =>
  withTemporaryFolder(async (folder) => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 }),
        fc.constantFrom(30, 1e9),
        async (tensors, maxShardBytes) => {
          const contents = tensors.map(({ dtype, shape, fill }) =>
            Uint8Array.from({ length: tensorBytes(dtype, shape)! }, (_, i) => i * 31 + fill)
          );
          const sources = tensors.map((tensor, i) => ({ ...tensor, chunks: () => [contents[i]] }));
          await saveCheckpoint(folder, sources, { maxShardBytes });
          const checkpoint = await openCheckpoint(folder);
          try {
            assert.equal(checkpoint.tensors.size, tensors.length);
            for (const [i, { name, dtype, shape }] of tensors.entries()) {
              const info = checkpoint.tensors.get(name)!;
              assert.deepEqual([info.dtype, info.shape], [dtype, shape]);
              assertEqualBytes(await checkpoint.readBytes(name), contents[i]);
            }
          } finally {
            await checkpoint.close();
          }
        },
      ),
      RUNS,
    );
  }));

/** A row of JSON, whatever is in it. */
const row = fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue(), { maxKeys: 5 }).map((row) =>
  // -0 is no JSON, and a key "__proto__" is one like any other.
  JSON.parse(JSON.stringify(row)) as Record<string, unknown>
);

for (
  const [name, write] of Object.entries<(rows: unknown[]) => string | Uint8Array>({
    "rows.jsonl": (rows) => rows.map((row) => JSON.stringify(row)).join("\n"),
    "rows.jsonl.gz": (rows) => gzipSync(rows.map((row) => JSON.stringify(row)).join("\r\n\n")),
    "list.json": (rows) => JSON.stringify(rows, null, 1),
    "data.json": (rows) => `\n${JSON.stringify({ before: [{ data: 1 }], data: rows })}`,
  })
) {
  Deno.test(`rows of any JSON come out of ${name} as JSON.parse() has them, numbers as Python`, () =>
    withTemporaryFolder(async (folder) => {
      await fc.assert(
        fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 6 }), async (rows) => {
          const path = join(folder, name);
          await writeFile(path, write(rows));
          const expected = rows.map((row) => parseJson(JSON.stringify(row)));
          assert.deepEqual((await Array.fromAsync(readRows(path))).map(({ row }) => row), expected);
        }),
        RUNS,
      );
    }));
}

Deno.test("a float32 goes to the nearest bfloat16 or float16, and comes back as it is", () => {
  const values = fc.float32Array({ minLength: 1, maxLength: 50 });
  const next = (bits: number, by: number) =>
    toF32(new Uint8Array(Uint16Array.of(bits + by).buffer), "BF16")[0];
  fc.assert(
    fc.property(values, (list) => {
      const floats = new Float32Array(list);
      assert.deepEqual(toF32(fromF32(floats, "F32"), "F32"), floats);
      for (const dtype of ["BF16", "F16"] as const) {
        const once = toF32(fromF32(floats, dtype), dtype);
        assert.deepEqual(toF32(fromF32(once, dtype), dtype), once);
      }
      const halves = new Uint16Array(fromF32(floats, "BF16").buffer);
      floats.forEach((value, i) => {
        const rounded = toF32(new Uint8Array(halves.slice(i, i + 1).buffer), "BF16")[0];
        if (Number.isNaN(value)) return assert.ok(Number.isNaN(rounded));
        if (!Number.isFinite(rounded)) return assert.ok(!Number.isFinite(value) || Math.abs(value) > 3.38e38);
        const off = Math.abs(value - rounded);
        for (const by of [-1, 1]) {
          const other = next(halves[i], by);
          if (Number.isFinite(other)) {
            assert.ok(off <= Math.abs(value - other), `${value} to ${rounded}, not ${other}`);
          }
        }
      });
    }),
    RUNS,
  );
});

Deno.test("the command line's words come into the configuration as they are", () => {
  const text = fc.string({ unit: "binary", minLength: 1 }).filter((text) => text !== "null");
  fc.assert(
    fc.property(
      text,
      fc.nat(),
      fc.double({ min: 2 ** -126, noNaN: true, max: 3.4e38 }),
      (name, seed, rate) => {
        const { config } = parsed("", `--run_name=${name}`, `--seed=${seed}`, `--learning_rate=${rate}`);
        assert.deepEqual([config.runName, config.seed, config.learningRate], [name, seed, rate]);
        assert.equal(
          parsed(`run_name: ${JSON.stringify(name.toWellFormed())}`).config.runName,
          name.toWellFormed(),
        );
      },
    ),
    RUNS,
  );
});

Deno.test("a share of the mixer is set for a path of any signs", () => {
  const path = fc.string({ minLength: 1 }).filter((path) => path.trim() !== "");
  fc.assert(
    fc.property(path, fc.double({ min: 0, max: 1, noNaN: true }), (path, share) => {
      const { datasetMixer } = parsed("", `--dataset_mixer.${path}=${share}`).config;
      assert.deepEqual(datasetMixer.find((part) => part.path === path)?.share, share);
    }),
    RUNS,
  );
});

Deno.test("no word of a command line is lost between positionals and overrides", () => {
  const word = fc.constantFrom("--seed", "--do_eval", "--x=1", "run.yaml", "yes", "--", "-1", "");
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      const { positionals, overrides } = splitArguments(words);
      const joined = [...positionals, ...overrides].join(" ").replaceAll("=", " ").split(" ").sort();
      assert.deepEqual(joined, words.join(" ").replaceAll("=", " ").split(" ").sort());
    }),
    RUNS,
  );
});

Deno.test("a file name of a repository that is accepted stays within its folder, on every system", () => {
  const part = fc.oneof(
    fc.constantFrom("..", ".", "", "a", "C:", "..\\", "NUL", "a.", ...HOSTILE_NAMES),
    fc.string(),
  );
  const repo = { type: "model", name: "org/tiny", revision: "main" } as const;
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), (parts) => {
      const name = parts.join("/");
      try {
        checkFileName(name, repo);
      } catch {
        return;
      }
      assert.ok(posix.resolve("/cache/x", name).startsWith("/cache/x/"), name);
      const inWindows = win32.resolve("C:\\cache\\x", name);
      assert.ok(!isPortable(name) || inWindows.startsWith("C:\\cache\\x\\"), `${name}: ${inWindows}`);
    }),
    { numRuns: 2000 },
  );
});
