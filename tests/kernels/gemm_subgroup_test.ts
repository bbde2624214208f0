/**
 * Products for subgroups on adapters that have none, and for sizes of subgroups that no software driver has: the
 * emitted text, and the text run with its broadcasts through workgroup memory. `gemm_test.ts` runs it as it is.
 */
import assert from "node:assert/strict";
import type { GemmLayout, GemmVariant, SubgroupTile } from "../../kernels/gemm.ts";
import { gemmSource } from "../../kernels/gemm_source.ts";
import { onlyTile } from "../../lib/gpu/tuning.ts";
import { magnitudes, matrix, multiply, transposed } from "../reference/matrix.ts";
import { kernelTest, largest, useGpu } from "./harness.ts";
import { withoutSubgroups } from "./subgroups.ts";

useGpu();

const LAYOUTS: readonly GemmLayout[] = ["nt", "nn", "tn"];

const tileFor = (
  lanes: number,
  threadRows: number,
  threadColumns: number,
  threads = lanes,
): SubgroupTile => ({
  memory: "subgroup",
  threadRows,
  threadColumns,
  groupRows: 1,
  groupColumns: threads,
  lanes,
});

interface Product {
  layout: GemmLayout;
  m: number;
  n: number;
  k: number;
  /** Of the tile, and of the subgroups that it meets. */
  lanes: number;
  threadRows: number;
  size: number;
  /** Of a workgroup, where it is not one subgroup. */
  threads?: number;
}

kernelTest(
  "products pass the right values round in subgroups of any size from the smallest on",
  LAYOUTS.flatMap((layout) =>
    [
      { lanes: 4, threadRows: 32, size: 8 },
      { lanes: 32, threadRows: 16, size: 32 },
      { lanes: 32, threadRows: 4, size: 64 },
      // A workgroup of several subgroups, and of half a one.
      { lanes: 4, threadRows: 8, size: 8, threads: 32 },
      { lanes: 32, threadRows: 8, size: 64, threads: 32 },
    ].flatMap((subgroups): Product[] => [
      { layout, m: 35, n: 140, k: 52, ...subgroups },
      { layout, m: 9, n: 35, k: 31, ...subgroups },
    ])
  ),
  async (kernels, { layout, m, n, k, lanes, threadRows, size, threads = size }) => {
    const tile = tileFor(lanes, threadRows, 4, threads);
    const [aRows, aColumns] = layout === "tn" ? [k, m] : [m, k];
    const [bRows, bColumns] = layout === "nt" ? [n, k] : [k, n];
    const [a, b] = [kernels.values(m * k), kernels.values(n * k)];
    const c = kernels.tensor([m, n]);
    const operands = { a: kernels.tensor([aRows, aColumns], a), b: kernels.tensor([bRows, bColumns], b), c };
    const rows = kernels.rows(layout === "tn" ? k : m);
    const calls = kernels.products(onlyTile(tile)).calls(layout, rows, operands);
    await kernels.run(
      calls.map((call) => ({ ...call, source: withoutSubgroups(call.source, tile, size) })),
    );
    const left = matrix(a, aRows, aColumns);
    const right = matrix(b, bRows, bColumns);
    const product = [
      layout === "tn" ? transposed(left) : left,
      layout === "nt" ? transposed(right) : right,
    ] as const;
    await kernels.compare(c, multiply(...product), {
      tolerance: 1e-6,
      scale: largest(multiply(magnitudes(product[0]), magnitudes(product[1]))),
    });
  },
);

const variants = LAYOUTS.flatMap((layout): GemmVariant[] =>
  [false, true].flatMap((tail) =>
    [false, true].map((aligned): GemmVariant => ({
      layout,
      tail,
      aligned,
      epilogue: { kind: "residual" },
      weights: "f32",
    }))
  )
);

Deno.test("broadcasts name a lane that every subgroup has, and stand where all threads come by", () => {
  for (const lanes of [8, 32]) {
    for (const threadRows of [8, 16, 32]) {
      for (const variant of variants) {
        const source = gemmSource(variant, tileFor(lanes, threadRows, 8));
        const main = source.slice(source.indexOf("@compute"));
        const broadcasts = [...main.matchAll(/subgroup\w+\(share(\d+), (\d+)u\)/g)];
        assert.equal(broadcasts.length, main.match(/subgroup\w+\(/g)!.length);
        assert.ok(broadcasts.every(([, , lane]) => Number(lane) < lanes));
        assert.doesNotMatch(main, /\b(if|return|break|continue|workgroupBarrier)\b/);
        assert.doesNotMatch(source, /enable /);
        for (const loop of main.split(/(?=^ {2}for \(; k < )/m).slice(1)) {
          const loads = [...loop.matchAll(/let (share\d+) = /g)].map(([, share]) => share);
          const used = new Set([...loop.matchAll(/\((share\d+),/g)].map(([, share]) => share));
          assert.deepEqual([...used], loads);
        }
      }
    }
  }
});

Deno.test("a lane loads several rows where there are fewer lanes, and several steps where there are more", () => {
  const loads = (layout: GemmLayout, lanes: number, threadRows: number) => {
    const variant: GemmVariant = {
      layout,
      tail: false,
      aligned: true,
      epilogue: { kind: "none" },
      weights: "f32",
    };
    const source = gemmSource(variant, tileFor(lanes, threadRows, 8));
    const [loop] = source.split(/(?=^ {2}for \(; k < )/m).slice(1);
    return [loop.match(/let share/g)!.length, Number(/k \+= (\d+)u/.exec(loop)![1])];
  };
  assert.deepEqual(loads("nt", 8, 32), [4, 4]);
  assert.deepEqual(loads("nt", 8, 8), [1, 4]);
  assert.deepEqual(loads("nn", 32, 16), [1, 8]);
  assert.deepEqual(loads("nn", 32, 8), [1, 16]);
  assert.deepEqual(loads("nn", 128, 8), [1, 16]);
  assert.deepEqual(loads("tn", 8, 32), [2, 2]);
  assert.deepEqual(loads("tn", 8, 16), [1, 2]);
  assert.deepEqual(loads("tn", 32, 8), [1, 16]);
});

Deno.test("a tile that does not fit subgroups is refused", () => {
  for (const change of [{ lanes: 12 }, { groupColumns: 12 }, { groupRows: 2 }, { threadRows: 12 }]) {
    assert.throws(() => gemmSource(variants[0], { ...tileFor(8, 8, 8), ...change }), RangeError);
  }
});
