/**
 * Products by subgroup matrices. Where the device has none of float16, as with Deno's own engine, those are not run;
 * where it has none of float32, the kernel for Apple's is run with loops in their place (`missingFor` says where).
 */
import assert from "node:assert/strict";
import { gemmGroupTile, type GemmLayout, type MatrixTile } from "../../kernels/gemm.ts";
import { matrixBytes, matrixTile } from "../../kernels/gemm_matrix.ts";
import { gemmSource } from "../../kernels/gemm_source.ts";
import { onlyTile } from "../../lib/gpu/tuning.ts";
import { deviceTest, type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";
import { checkProduct, checkStored, OPERAND_ERROR, type Product, storedProducts } from "./product_case.ts";
import { MATRICES, matrixTileHere, missingFor, runnable } from "./subgroups.ts";
import { magnitudes, type Matrix, matrix, multiply, transposed } from "../reference/matrix.ts";

useGpu();

type Precision = MatrixTile["precision"];
const PRECISIONS: readonly Precision[] = ["highest", "high", "medium"];
const LAYOUTS: readonly GemmLayout[] = ["nt", "nn", "tn"];
const missing = missingFor({ memory: "matrix" });
const missingFloat32 = missingFor({ memory: "matrix", precision: "highest" });
/** The precisions whose edges are looked at, with the name of their numbers, and what the device lacks for them. */
const TYPES = [["highest", "float32", missingFloat32], ["high", "float16", missing]] as const;

// Every kernel takes seconds to compile: few variants, and many sizes of each.
const PRODUCTS: Product[] = [
  { layout: "nt", m: 1, n: 4, k: 4 },
  { layout: "nt", m: 33, n: 20, k: 100, spare: 2 },
  { layout: "nt", m: 132, n: 132, k: 36, spare: 1, scale: 0.22 },
  { layout: "nn", m: 3, n: 8, k: 1 },
  { layout: "nn", m: 33, n: 36, k: 67, padA: 1, spare: 1 },
  { layout: "nn", m: 70, n: 132, k: 36, scale: -1.5 },
  { layout: "tn", m: 4, n: 4, k: 1 },
  { layout: "tn", m: 68, n: 132, k: 31, spare: 3, epilogue: "accumulate", accumulate: true },
  { layout: "tn", m: 36, n: 20, k: 133, epilogue: "accumulate" },
];
const UNALIGNED: Product[] = [
  { layout: "nt", m: 3, n: 5, k: 7, spare: 4, bias: true },
  { layout: "nt", m: 31, n: 131, k: 6, padC: 3, spare: 1, bias: true, scale: -1.5 },
  { layout: "nn", m: 31, n: 3, k: 9, spare: 2, epilogue: "residual" },
  { layout: "nn", m: 33, n: 131, k: 6, epilogue: "residual", scale: 0.22 },
  { layout: "tn", m: 5, n: 6, k: 31, padA: 3, epilogue: "always" },
  { layout: "tn", m: 65, n: 131, k: 33, spare: 31, epilogue: "always" },
];

for (const precision of PRECISIONS) {
  const tile = matrixTileHere(precision);
  const type = precision === "highest" ? "float32" : "float16";
  for (const layout of LAYOUTS) {
    kernelTest(
      `${layout} products of ${type} matrices equal the float64 product to what ${precision} precision promises`,
      [...PRODUCTS, ...precision === "medium" ? [] : UNALIGNED].filter((product) =>
        product.layout === layout
      ),
      (kernels, product) => checkProduct(kernels, product, tile),
      missingFor(tile),
    );
  }
}

for (const precision of ["highest", "medium"] as const) {
  const tile = matrixTileHere(precision);
  kernelTest(
    `a product of matrices of ${precision} precision in parts equals the float64 product`,
    [
      { layout: "nn", m: 33, n: 36, k: 267, padA: 1, spare: 1 },
      { layout: "tn", m: 36, n: 20, k: 133, spare: 99, epilogue: "accumulate", accumulate: true },
    ] as Product[],
    (kernels, product) => checkProduct(kernels, product, tile, { sums: 2 ** 14, depth: 1 }),
    missingFor(tile),
  );
}

kernelTest(
  "a product of float32 matrices is one kernel, without scales or float16",
  LAYOUTS,
  (kernels, layout) => {
    const operands = { a: kernels.tensor([8, 8]), b: kernels.tensor([8, 8]), c: kernels.tensor([8, 8]) };
    const calls = kernels.products(onlyTile(matrixTileHere("highest"))).calls(
      layout,
      kernels.rows(8),
      operands,
    );
    assert.equal(calls.length, 1);
    assert.equal(calls[0].bindings.length, 5);
    assert.doesNotMatch(calls[0].source, /f16|scales|found/);
    return Promise.resolve();
  },
);

interface Line {
  layout: GemmLayout;
  precision: Precision;
}
const [m, n, k] = [20, 36, 44];
const linesOf = (precision: Precision): Line[] => LAYOUTS.map((layout) => ({ layout, precision }));

/** C, and both operands as A[m, k] and B[k, n] in float64, where `change` has changed the numbers of both. */
async function product(
  kernels: KernelCase,
  { layout, precision }: Line,
  change: (operand: "a" | "b", line: number, inner: number, value: number) => number,
) {
  const operand = (name: "a" | "b", lines: number, areRows: boolean) => {
    const at = (i: number) => areRows ? [Math.floor(i / k), i % k] : [i % lines, Math.floor(i / lines)];
    const data = kernels.values(lines * k).map((value, i) => change(name, at(i)[0], at(i)[1], value));
    const shape = areRows ? [lines, k] : [k, lines];
    const view = matrix(data, shape[0], shape[1]);
    return { tensor: kernels.tensor(shape, data), lines: areRows ? view : transposed(view) };
  };
  const a = operand("a", m, layout !== "tn");
  const b = operand("b", n, layout === "nt");
  const c = kernels.tensor([m, n]);
  const tile = matrixTileHere(precision);
  const rows = kernels.rows(layout === "tn" ? k : m);
  const calls = kernels.products(onlyTile(tile)).calls(layout, rows, { a: a.tensor, b: b.tensor, c });
  await kernels.run(runnable(calls, tile));
  return { c: await kernels.read(c, m * n), a: a.lines, b: transposed(b.lines) };
}

/** Checks every element to its own bound. */
function assertBound(c: Float32Array, a: Matrix, b: Matrix, precision: Precision): void {
  const exact = multiply(a, b);
  const terms = multiply(magnitudes(a), magnitudes(b));
  const most = (at: (inner: number) => number) =>
    largest(Float64Array.from({ length: k }, (_, inner) => at(inner)));
  c.forEach((value, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    const [ofA, ofB] = [most((inner) => a.at(row, inner)), most((inner) => b.at(inner, column))];
    // What float16 cannot hold beside the largest of its line, and what is no normal float32, which devices may take for 0.
    const lost = precision === "highest" ? 0 : 2 ** -38 * ofA * ofB;
    const floor = k * (lost + 2 ** -126 * (ofA + ofB + 1));
    const bound = (OPERAND_ERROR[precision] + 1e-6) * terms[i] + floor;
    const error = Math.abs(value - exact[i]);
    assert.ok(
      error <= bound,
      `element ${i} is ${value}, expected ${exact[i]}: off by ${error}, more than ${bound}`,
    );
  });
}

for (const [precision, type, lacked] of TYPES) {
  const cases = linesOf(precision);
  kernelTest(
    `lines of any magnitude are as exact as others in products of ${type} matrices`,
    [...cases, ...precision === "high" ? [{ layout: "nt", precision: "medium" } as const] : []],
    async (kernels, line) => {
      const large = kernels.integer(0, 1) ? "a" : "b";
      const { c, a, b } = await product(
        kernels,
        line,
        // From 1e-30 to 1e30 line by line in one operand, and one line of zeros; the other's lines are about 1.
        (operand, at, _, value) =>
          operand === large ? value * (at === 7 ? 0 : 10 ** (at % 13 * 5 - 30)) : value,
      );
      assertBound(c, a, b, line.precision);
      assert.ok(
        c.some((value) => value !== 0 && Math.abs(value) < 1e-25) &&
          c.some((value) => Math.abs(value) > 1e25),
      );
    },
    lacked,
  );

  kernelTest(
    `${type} matrices of numbers of any magnitude, also where scales multiply past the range, stay in the bound`,
    cases,
    async (kernels, line) => {
      const mixed = await product(
        kernels,
        line,
        (_, at, inner, value) => value * 10 ** ((at * 7 + inner * 11) % 37 - 18),
      );
      assertBound(mixed.c, mixed.a, mixed.b, line.precision);
    },
    lacked,
  );

  kernelTest(
    `${type} matrices of 1e38 and 1e-38, and zeros`,
    cases,
    async (kernels, line) => {
      const [a, b] = kernels.integer(0, 1) ? [1e37, 1e-37] : [1e-37, 1e37];
      const zero = kernels.integer(0, m - 1);
      const found = await product(
        kernels,
        line,
        (operand, at, _, value) => operand === "b" ? value * b : at === zero ? 0 : value * a,
      );
      assertBound(found.c, found.a, found.b, line.precision);
      assert.ok(found.c.every((value, i) => (value === 0) === (Math.floor(i / n) === zero)));
    },
    lacked,
  );

  kernelTest(
    `an infinity or a NaN in ${type} matrices is in the whole row or column, and in no other`,
    cases,
    async (kernels, line) => {
      const { c } = await product(kernels, line, (operand, at, inner, value) => {
        if (operand === "a" && at === 2 && inner === 5) return Infinity;
        if (operand === "a" && at === 17 && inner === k - 1) return NaN;
        if (operand === "b" && at === 9 && inner === 0) return -Infinity;
        if (operand === "b" && at === n - 1 && inner === 3) return NaN;
        return value;
      });
      c.forEach((value, i) => {
        const isHit = [2, 17].includes(Math.floor(i / n)) || [9, n - 1].includes(i % n);
        assert.equal(Number.isFinite(value), !isHit, `element ${i} is ${value}`);
      });
    },
    lacked,
  );
}

const STORED = storedProducts([
  { layout: "nt", m: 33, n: 61, k: 36 },
  { layout: "nn", m: 33, n: 132, k: 37 },
]);

kernelTest(
  "a matrix stored in two bytes is read as the float32 that it stands for, and needs no low part",
  STORED,
  async (kernels, product) => {
    const calls = await checkStored(kernels, product, matrixTileHere("high"));
    assert.doesNotMatch(calls.at(-1)!.source, /b_low/);
  },
  missing,
);

kernelTest(
  "float32 matrices take a matrix stored in two bytes as the float32 that it stands for",
  STORED,
  async (kernels, product) => void await checkStored(kernels, product, matrixTileHere("highest")),
  missingFloat32,
);

/** Bytes of the workgroup variables of `source`. */
const workgroupBytes = (source: string) =>
  [...source.matchAll(/var<workgroup> \w+: array<(f16|f32), (\d+)>/g)]
    .reduce((sum, [, type, length]) => sum + (type === "f16" ? 2 : 4) * Number(length), 0);

Deno.test("tiles of matrices have the workgroup memory that they say, and a device allows", () => {
  for (const [name, matrices] of Object.entries(MATRICES)) {
    for (const precision of PRECISIONS) {
      for (const most of [2 ** 14, 2 ** 15, 48 * 1024]) {
        const tile = matrixTile({ ...matrices, workgroupBytes: most }, precision)!;
        const bytes = LAYOUTS.map((layout) =>
          workgroupBytes(
            gemmSource(
              { layout, epilogue: { kind: "none" }, aligned: true, tail: false, weights: "f32" },
              tile,
            ),
          )
        );
        assert.equal(Math.max(...bytes), matrixBytes(tile));
        assert.ok(matrixBytes(tile) <= Math.min(most, 2 ** 15), `${name} ${precision} of ${most}`);
      }
    }
  }
  const [medium, high] = (["medium", "high"] as const).map((precision) =>
    gemmGroupTile(matrixTile(MATRICES.large, precision)!)
  );
  const apple = matrixTile({ ...MATRICES.apple, workgroupBytes: 2 ** 14 }, "highest")!;
  assert.deepEqual(gemmGroupTile(apple), { rows: 64, columns: 64 });
  assert.deepEqual([medium, high], [{ rows: 128, columns: 128 }, { rows: 128, columns: 64 }]);
  assert.equal(matrixTile({ ...MATRICES.large, workgroupBytes: 2 ** 12 }, "high"), undefined);
});

deviceTest(
  "the kernels for an NVIDIA GPU's matrices, and for Apple's, are WGSL",
  async ({ gpu }) => {
    for (const precision of PRECISIONS) {
      const matrices = precision === "highest" ? MATRICES.apple : MATRICES.large;
      for (const layout of LAYOUTS) {
        const variant = {
          layout,
          epilogue: { kind: "none" },
          aligned: true,
          tail: false,
          weights: "f32",
        } as const;
        const source = gemmSource(variant, matrixTile(matrices, precision)!);
        gpu.device.pushErrorScope("validation");
        gpu.device.createShaderModule({
          code: `enable f16, subgroups, chromium_experimental_subgroup_matrix;\n${source}`,
        });
        assert.equal((await gpu.device.popErrorScope())?.message, undefined);
      }
    }
  },
  missing,
);
