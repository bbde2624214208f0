import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { assertRefused, entry, file } from "../hostile_safetensors.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** Tests that a folder whose model.safetensors holds `bytes` is refused. */
function testRefused(name: string, bytes: Uint8Array, ...messages: RegExp[]): void {
  Deno.test(`openCheckpoint() refuses ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      await writeFile(join(folder, "model.safetensors"), bytes);
      await assertRefused(folder, ...messages);
    }));
}

function headerOfLength(length: bigint, bytes: number): Uint8Array {
  const file = new Uint8Array(bytes);
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
}

testRefused("an empty file", new Uint8Array(0), /expected at least 8 bytes, found 0/);
testRefused("a file of 7 bytes", new Uint8Array(7), /expected at least 8 bytes, found 7/);
testRefused(
  "a header longer than the file",
  headerOfLength(93n, 100),
  /header should be 93 bytes, but only 92 follow/,
);
testRefused("a header above 100 MB", headerOfLength(100_000_001n, 100), /header would be 100000001 bytes/);
testRefused(
  "a header of 2^64 - 1 bytes",
  headerOfLength(2n ** 64n - 1n, 100),
  /would be 18446744073709551615 bytes/,
);
testRefused("a header of no bytes", headerOfLength(0n, 8), /not JSON/);
testRefused("a header that is not JSON", file("{'a': 1}", 0), /header is not JSON in UTF-8/);
testRefused("a header that is not UTF-8", file("{}", 0).with(8, 0xff), /header is not JSON in UTF-8/);
testRefused("a header that is a list", file([], 0), /must be a JSON object, found \[\]/);
testRefused("a header that is null", file("null", 0), /must be a JSON object, found null/);
testRefused(
  "a header nested a million deep",
  file(`{"a":${"[".repeat(1e6)}${"]".repeat(1e6)}}`, 0),
  /expected an object with dtype, shape and data_offsets, found \[a list\]/,
);
testRefused("metadata that are no strings", file({ __metadata__: { format: 1 } }, 0), /__metadata__/);
testRefused("a tensor that is no object", file({ a: 3 }, 0), /tensor "a": expected an object .* found 3/);
testRefused(
  "an unknown dtype",
  file({ a: entry("F31", [1], [0, 4]) }, 4),
  /"a": dtype must be one of .*found "F31"/,
);
testRefused("a dtype of JavaScript's", file({ a: entry("toString", [1], [0, 4]) }, 4), /found "toString"/);
testRefused("a missing dtype", file({ a: { shape: [1], data_offsets: [0, 4] } }, 4), /dtype .*found nothing/);
testRefused("a negative shape", file({ a: entry("F32", [-1], [0, 4]) }, 4), /"a": shape .*found \[-1\]/);
testRefused("a fractional shape", file({ a: entry("F32", [1.5], [0, 6]) }, 6), /"a": shape .*found \[1.5\]/);
testRefused("a shape of strings", file({ a: entry("F32", ["1"], [0, 4]) }, 4), /"a": shape .*found \["1"\]/);
testRefused(
  "a dimension above 2^53",
  file('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}', 1),
  /"a": shape/,
);
testRefused(
  "a shape whose product overflows",
  file({ a: entry("F32", [2 ** 40, 2 ** 40], [0, 4]) }, 4),
  /"a": the size of shape \[1099511627776, 1099511627776\] in F32 is no valid count of bytes/,
);
testRefused(
  "a shape whose product overflows before a zero",
  file({ a: entry("F32", [2 ** 40, 2 ** 40, 0], [0, 0]) }, 0),
  /"a": the size of shape/,
);
testRefused("half a byte of F4", file({ a: entry("F4", [3], [0, 2]) }, 2), /no valid count of bytes/);
testRefused(
  "offsets that do not fit the shape",
  file({ a: entry("F32", [2, 3], [0, 20]) }, 20),
  /"a": shape \[2, 3\] in F32 is 24 bytes, but data_offsets \[0, 20\] hold 20/,
);
testRefused(
  "offsets that are too long for the shape",
  file({ a: entry("F32", [2, 3], [0, 28]) }, 28),
  /"a": shape \[2, 3\] in F32 is 24 bytes, but data_offsets \[0, 28\] hold 28/,
);
testRefused(
  "offsets in reverse",
  file({ a: entry("F32", [1], [4, 0]) }, 4),
  /"a": data_offsets .*found \[4, 0\]/,
);
testRefused(
  "a negative offset",
  file({ a: entry("F32", [1], [-4, 0]) }, 0),
  /"a": data_offsets .*found \[-4, 0\]/,
);
testRefused("three offsets", file({ a: entry("F32", [1], [0, 4, 8]) }, 8), /"a": data_offsets/);
testRefused(
  "missing offsets",
  file({ a: { dtype: "F32", shape: [1] } }, 4),
  /"a": data_offsets .*found nothing/,
);
testRefused(
  "overlapping tensors",
  file({ a: entry("U8", [8], [0, 8]), b: entry("U8", [8], [4, 12]) }, 12),
  /"b": its data begins at byte \d+, within the tensor before it/,
);
testRefused(
  "two tensors of the same bytes",
  file({ a: entry("U8", [8], [0, 8]), b: entry("U8", [8], [0, 8]) }, 8),
  /"b": .*must not overlap/,
);
testRefused(
  "a hole between tensors",
  file({ a: entry("U8", [4], [0, 4]), b: entry("U8", [4], [8, 12]) }, 12),
  /"b": .*belong to no tensor/,
);
testRefused(
  "a hole before the first tensor",
  file({ a: entry("U8", [4], [4, 8]) }, 8),
  /"a": .*belong to no tensor/,
);
testRefused(
  "bytes after the last tensor",
  file({ a: entry("U8", [4], [0, 4]) }, 9),
  /5 bytes at its end belong to no tensor/,
);
const truncated = file({ a: entry("U8", [1000], [0, 1000]) }, 400);
testRefused(
  "truncated data",
  truncated,
  new RegExp(`truncated: expected ${truncated.length + 600} bytes by its header, found ${truncated.length}`),
);
testRefused(
  "a tensor named twice",
  file(
    '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' +
      '"\\u0061" :{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    1,
  ),
  /the header names "a" twice/,
);
testRefused(
  "a shape given twice",
  file('{"a":{"dtype":"U8","shape":[2],"shape":[1],"data_offsets":[0,1]}}', 1),
  /the header names "shape" twice/,
);
testRefused(
  "a name of a megabyte, in a short message",
  file({ ["x".repeat(1e6)]: 1 }, 0),
  /tensor "x+\.\.\."/,
);

Deno.test("openCheckpoint() allows the same key in different tensors, and in what has no meaning", () =>
  withTemporaryFolder(async (folder) => {
    const text = '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":[{"y":1},{"y":":"}]}},"y":' +
      '{"data_offsets":[1,2],"shape":[1],"dtype":"U8"}}  ';
    await writeFile(join(folder, "model.safetensors"), file(text, 2));
    const checkpoint = await openCheckpoint(folder);
    assert.deepEqual([...checkpoint.tensors.keys()], ["a", "y"]);
    await checkpoint.close();
  }));

Deno.test("openCheckpoint() refuses a valid file cut at any byte", () =>
  withTemporaryFolder(async (folder) => {
    const whole = file({ a: entry("F32", [2], [0, 8]), b: entry("BF16", [1], [8, 10]) }, 10);
    for (let length = 0; length < whole.length; length++) {
      await writeFile(join(folder, "model.safetensors"), whole.subarray(0, length));
      await assertRefused(folder);
    }
  }));

Deno.test("openCheckpoint() reads or refuses a file with any byte of its header changed", () =>
  withTemporaryFolder(async (folder) => {
    const whole = file({ a: entry("F32", [2], [0, 8]), b: entry("BF16", [1], [8, 10]) }, 10);
    let refused = 0;
    for (let at = 0; at < whole.length - 10; at++) {
      for (const byte of [0x00, 0x22, 0x2d, 0x39, 0x5d, 0x7d, 0xff]) {
        await writeFile(join(folder, "model.safetensors"), whole.with(at, byte));
        try {
          await (await openCheckpoint(folder)).close();
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          refused++;
        }
      }
    }
    assert.ok(refused > 300, `${refused} refused`);
  }));
