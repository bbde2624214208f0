import assert from "node:assert/strict";
import { keepKeys } from "../../lib/gpu/attention_operations.ts";
import { choose } from "../../lib/gpu/operations.ts";
import { onlyTile, rowTile } from "../../lib/gpu/tuning.ts";
import { readTensor } from "../../lib/gpu/program.ts";
import { kernelTest, useGpu } from "./harness.ts";
import { matrix, multiply, transposed } from "../reference/matrix.ts";

useGpu();

kernelTest("the first of the most likely tokens is chosen, after scale and cap", [{}], async (kernels) => {
  const vocabulary = 1030;
  const logits = kernels.values(vocabulary, 3);
  // Three are equal, where none else is as large, and the padding, which is larger, does not count.
  for (const token of [1029, 517, 518]) logits[token] = 40;
  const padded = new Float32Array(1032).fill(1e6);
  padded.set(logits);
  const t = {
    logits: kernels.tensor([1, 1032], padded),
    next: kernels.tensorInPlace([1], Float32Array.of(0)),
    chosen: kernels.tensorInPlace([6], new Float32Array(6)),
  };
  await kernels.run([choose(kernels.rows(4), t, vocabulary, { logitScale: 0.5, logitSoftcap: 30 })]);
  const read = async (tensor: typeof t.next) => [...new Uint32Array(await readTensor(kernels.gpu, tensor))];
  assert.deepEqual((await read(t.next)).slice(0, 1), [517]);
  assert.deepEqual((await read(t.chosen)).slice(0, 6), [0, 0, 0, 0, 517, 0]);
});

for (const [first, columns, stride] of [[8, 4, 12], [3, 6, 9]]) {
  kernelTest(
    `keys go to the last rows of the cache, ${columns} of ${stride} columns`,
    [{}],
    async (kernels) => {
      const qkv = kernels.values(2 * stride);
      const before = kernels.values(6 * columns);
      const cache = kernels.tensorInPlace([6, columns], before);
      const tensor = kernels.tensor([2, stride], qkv);
      await kernels.run([keepKeys(kernels.rows(2), kernels.rows(5), { tensor, first }, cache)]);
      const expected = before.slice();
      for (const row of [0, 1]) {
        expected.set(qkv.slice(row * stride + first, row * stride + first + columns), (3 + row) * columns);
      }
      const found = new Float32Array(await readTensor(kernels.gpu, cache));
      assert.deepEqual(found.slice(0, expected.length), expected);
    },
  );
}

for (const device of ["software", "gpu"] as const) {
  for (const [rows, n, k] of [[1, 67, 70], [2, 72, 300], [1, 8, 4]]) {
    kernelTest(`product of ${rows} row of ${n} by ${k}, by row tiles of ${device}`, [{}], async (kernels) => {
      const [x, w, bias] = [kernels.values(rows * k), kernels.values(n * k), kernels.values(n)];
      const t = {
        a: kernels.tensor([rows, k], x),
        b: kernels.tensor([n, k], w),
        c: kernels.tensor([rows, n]),
        bias: kernels.tensor([n, 1], bias),
      };
      const products = kernels.products(onlyTile(rowTile(device)));
      await kernels.run(products.calls("nt", kernels.rows(rows), t, { scale: 0.5 }));
      const product = multiply(matrix(x, rows, k, k), transposed(matrix(w, n, k, k)));
      const found = new Float32Array(await readTensor(kernels.gpu, t.c, 0, rows * n));
      const largest = product.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      product.forEach((value, i) => {
        const expected = 0.5 * (value + bias[i % n]);
        assert.ok(Math.abs(found[i] - expected) < 3e-6 * largest, `${i}: ${found[i]}, ${expected}`);
      });
    });
  }
}
