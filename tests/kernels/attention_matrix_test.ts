/** Attention by subgroup matrices of float16; where the device has none, as with Deno's own engine, it is not run. */
import assert from "node:assert/strict";
import type { AttentionShape } from "../../kernels/attention.ts";
import { matrixAttentionBytes, matrixCut } from "../../kernels/attention_matrix.ts";
import {
  matrixKeyGradientSource,
  matrixQueryGradientSource,
} from "../../kernels/attention_matrix_backward.ts";
import { matrixForwardSource } from "../../kernels/attention_matrix_forward.ts";
import type { MatrixPrecision } from "../../kernels/gemm.ts";
import { pack } from "../../lib/batch/pack.ts";
import { headsOf } from "../../lib/gpu/attention_family.ts";
import { Attention } from "../../lib/gpu/attention_operations.ts";
import { attentionTiles } from "../../lib/gpu/tuning.ts";
import { deviceTest, type KernelCase, kernelTest, useGpu } from "./harness.ts";
import { OPERAND_ERROR } from "./product_case.ts";
import { MATRICES, matrixAttentionHere, missingFor } from "./subgroups.ts";
import { apartPair, randomPairs } from "../random_pairs.ts";
import {
  attention as reference,
  attentionBackward as referenceBackward,
  sees,
} from "../reference/attention.ts";

useGpu();

const missing = missingFor({ memory: "matrix" });

interface Case extends AttentionShape {
  precision: MatrixPrecision;
  tokens: number;
  apart?: boolean;
  slidingWindow?: number;
  /** Of workgroup memory, where not as much is used as there is. */
  workgroupBytes?: number;
  /** Each row of values is multiplied by a power of ten of its own, from 10^-this to 10^this. */
  magnitudes?: number;
}

// Every shape is a kernel that takes a driver on the processor some seconds to compile: one unit of columns that is
// not full, two in one piece, and, beyond workgroup memory, several.
const SHAPES: (AttentionShape & { precision: MatrixPrecision })[] = [
  { heads: 3, keyValueHeads: 1, headDim: 20, scale: 0.2, softcap: 1.5, precision: "high" },
  { heads: 2, keyValueHeads: 2, headDim: 64, precision: "high" },
  { heads: 2, keyValueHeads: 1, headDim: 256, precision: "medium" },
];
const CASES: Case[] = SHAPES.flatMap((shape) => [
  ...[1, 33, 130].map((tokens) => ({ ...shape, tokens })),
  { ...shape, tokens: 230, apart: true },
  { ...shape, tokens: 100, slidingWindow: 20 },
  { ...shape, tokens: 70, magnitudes: 12 },
]);

/** The tensors of a case, with numbers that `change` has changed. */
function tensorsOf(
  kernels: KernelCase,
  shape: Case,
  change: (token: number, column: number, value: number) => number = (_token, _column, value) => value,
) {
  const { heads, keyValueHeads, headDim, precision, tokens, apart, slidingWindow, magnitudes = 0 } = shape;
  const capacity = tokens + kernels.integer(0, 40);
  const pairs = apart ? [apartPair(kernels.uniform)] : randomPairs(kernels.uniform, tokens);
  const batch = pack(pairs, [slidingWindow]);
  const width = (heads + 2 * keyValueHeads) * headDim;
  // Of every value's row.
  const factors = Array.from(
    { length: tokens * width / headDim },
    () => 10 ** kernels.integer(-magnitudes, magnitudes),
  );
  const isValue = (column: number) => column >= (heads + keyValueHeads) * headDim;
  const qkv = kernels.values(tokens * width).map((value, i) => {
    const factor = isValue(i % width) ? factors[Math.floor(i / headDim)] : 1;
    return change(Math.floor(i / width), i % width, value * factor);
  });
  const tilesOf = (data: Uint32Array) => kernels.tensor([Math.ceil(capacity / 32), 4], data);
  const ways = attentionTiles("gpu");
  const here = matrixAttentionHere(precision);
  const { workgroupBytes = here.workgroupBytes } = shape;
  const tile = { ...here, workgroupBytes, otherwise: ways.forward };
  const tiles = { forward: tile, queryGradient: tile, keyGradient: tile };
  const attention = new Attention(kernels.plan, shape, capacity, tiles, true);
  assert.deepEqual(attention.tiles, tiles);
  return {
    attention,
    capacity,
    spans: batch.masks[0].spans,
    qkv,
    tensors: {
      spans: kernels.tensor([capacity, 4], batch.masks[0].spans),
      queryTiles: tilesOf(batch.masks[0].queryTiles),
      keyTiles: tilesOf(batch.masks[0].keyTiles),
      ...headsOf(kernels.tensor([capacity, width], qkv), shape),
      out: kernels.tensor([capacity, heads, headDim]),
      lse: kernels.tensor([capacity, heads]),
    },
  };
}

/**
 * The error that each number of `out` and `lse` may have: a score's, by its terms, changes a probability by as much
 * relatively; a value's counts by its own, and by what float16 cannot hold beside the largest of its tile.
 */
function bounds(qkv: Float32Array, spans: Uint32Array, shape: Case) {
  const { heads, keyValueHeads, headDim, scale = headDim ** -0.5, precision, tokens } = shape;
  const width = (heads + 2 * keyValueHeads) * headDim;
  const unit = OPERAND_ERROR[precision] + 1e-6;
  const out = new Float64Array(tokens * heads * headDim);
  const lse = new Float64Array(tokens * heads);
  const magnitudes = qkv.map(Math.abs);
  for (let i = 0; i < tokens; i++) {
    for (let head = 0; head < heads; head++) {
      const shared = Math.floor(head / (heads / keyValueHeads));
      const keys = Array.from({ length: tokens }, (_, j) => j).filter((j) => sees(spans, i, j));
      const row = (j: number, first: number) =>
        magnitudes.subarray(j * width + first * headDim, j * width + (first + 1) * headDim);
      const query = row(i, head);
      const score = Math.max(...keys.map((j) => {
        const key = row(j, heads + shared);
        return scale * query.reduce((sum, value, d) => sum + value * key[d], 0);
      }));
      lse[i * heads + head] = unit * score + 4e-7 * (1 + Math.log(keys.length));
      const tiles = new Set(keys.map((j) => Math.floor(j / 32)));
      const most = Math.max(
        ...Array.from({ length: tokens }, (_, j) => j).filter((j) => tiles.has(Math.floor(j / 32)))
          .map((j) => Math.max(...row(j, heads + keyValueHeads + shared))),
      );
      // Probabilities, whose exponentials are off by as much as two scores and by 2e-7, and are split themselves.
      const relative = 2 * unit * score + unit + 1e-6;
      for (let d = 0; d < headDim; d++) {
        const p = probabilityWeighted(qkv, spans, shape, i, head, d);
        out[(i * heads + head) * headDim + d] = relative * p + tokens * 2 ** -37 * most;
      }
    }
  }
  return { out, lse };
}

/** The sum of probabilities times magnitudes of values: what `reference` makes of them. */
const weighted = new WeakMap<Float32Array, Float64Array>();
function probabilityWeighted(
  qkv: Float32Array,
  spans: Uint32Array,
  shape: Case,
  token: number,
  head: number,
  d: number,
): number {
  const { heads, keyValueHeads, headDim } = shape;
  const width = (heads + 2 * keyValueHeads) * headDim;
  let sums = weighted.get(qkv);
  if (!sums) {
    const positive = qkv.map((value, i) =>
      i % width >= (heads + keyValueHeads) * headDim ? Math.abs(value) : value
    );
    weighted.set(qkv, sums = reference(positive, spans, shape).out);
  }
  return sums[(token * heads + head) * headDim + d];
}

function assertWithin(found: Float32Array, expected: Float64Array, bound: Float64Array, what: string) {
  expected.forEach((value, i) => {
    const error = Math.abs(found[i] - value);
    assert.ok(
      error <= bound[i],
      `${what}: element ${i} is ${found[i]}, expected ${value}: off by ${error}, more than ${bound[i]}`,
    );
  });
}

kernelTest(
  "attention by float16 matrices equals the float64 softmax to what its precision promises",
  CASES,
  async (kernels, shape) => {
    const { heads, headDim, tokens } = shape;
    const { attention, spans, qkv, tensors } = tensorsOf(kernels, shape);
    await kernels.run(attention.forward(kernels.rows(tokens), tensors));
    const expected = reference(qkv, spans, shape);
    const bound = bounds(qkv, spans, shape);
    assertWithin(await kernels.read(tensors.lse, tokens * heads), expected.lse, bound.lse, "lse");
    assertWithin(await kernels.read(tensors.out, tokens * heads * headDim), expected.out, bound.out, "out");
    // And nothing past the rows.
    await kernels.compare(tensors.lse, expected.lse, { tolerance: Infinity });
    await kernels.compare(tensors.out, expected.out, { tolerance: Infinity });
  },
  missing,
);

// Of the largest gradient of queries and of keys and of values: what is summed up has rows of 32 with one scale.
const GRADIENT = { high: 4e-6, medium: 6e-3 };

/** The gradient of qkv by matrices and in float64, of an upstream gradient of that deviation, changed by `change`. */
async function gradientsOf(
  kernels: KernelCase,
  shape: Case,
  deviation: number,
  change: (value: number, i: number) => number = (value) => value,
) {
  const { heads, headDim, tokens } = shape;
  const { attention, capacity, spans, qkv, tensors } = tensorsOf(kernels, shape);
  const { out, lse } = reference(qkv, spans, shape);
  const dOut = kernels.values(out.length, deviation).map(change);
  const input = (values: Float64Array | Float32Array, ...columns: number[]) =>
    kernels.tensor([capacity, ...columns], Float32Array.from(values));
  const dQkv = kernels.tensor([capacity, qkv.length / tokens]);
  await kernels.run(attention.backward(kernels.rows(tokens), {
    ...tensors,
    out: input(out, heads, headDim),
    lse: input(lse, heads),
    dOut: input(dOut, heads, headDim),
    delta: kernels.tensor([capacity, heads]),
    dQueries: dQkv,
    dKeys: dQkv,
  }));
  return { dQkv, spans, expected: referenceBackward(qkv, dOut, spans, shape) };
}

// Own rows that stay in workgroup memory, and columns in two pieces.
const GRADIENT_SHAPES = [SHAPES[0], { ...SHAPES[1], workgroupBytes: 24 * 1024 }];

kernelTest(
  "the gradients by float16 matrices equal those in float64, in units of the largest",
  GRADIENT_SHAPES.flatMap((shape) => [
    ...[33, 100].map((tokens): Case => ({ ...shape, tokens })),
    { ...shape, tokens: 230, apart: true },
    { ...shape, tokens: 70, slidingWindow: 20 },
  ]),
  async (kernels, shape) => {
    // Upstream gradients of any magnitude.
    const { dQkv, expected } = await gradientsOf(kernels, shape, 10 ** kernels.integer(-20, 10));
    await kernels.compare(dQkv, expected, { tolerance: GRADIENT[shape.precision] });
  },
  missing,
);

kernelTest(
  "an infinity or a NaN in an upstream gradient is never a number in what comes of it",
  [NaN, Infinity].map((value) => ({ ...SHAPES[0], tokens: 70, value })),
  async (kernels, shape) => {
    const { heads, keyValueHeads, headDim, tokens, value } = shape;
    const [hit, column] = [40, headDim + 3];
    const { dQkv, spans } = await gradientsOf(
      kernels,
      shape,
      1,
      (usual, i) => i === hit * heads * headDim + column ? value : usual,
    );
    const width = (heads + 2 * keyValueHeads) * headDim;
    const found = await kernels.read(dQkv, tokens * width);
    const isNumber = (token: number, column: number) => Number.isFinite(found[token * width + column]);
    for (let d = 0; d < headDim; d++) assert.ok(!isNumber(hit, headDim + d), `query, column ${d}`);
    for (let key = 0; key < tokens; key++) {
      if (!sees(spans, hit, key)) continue;
      assert.ok(!isNumber(key, (heads + keyValueHeads) * headDim + 3), `value ${key}`);
      assert.ok(!isNumber(key, heads * headDim), `key ${key}`);
    }
  },
  missing,
);

kernelTest(
  "an infinity or a NaN in what a query sees is never a number in its row",
  SHAPES.slice(0, 1).map((shape): Case => ({ ...shape, tokens: 70 })),
  async (kernels, shape) => {
    const { heads, keyValueHeads, headDim, tokens } = shape;
    const hits = [
      { token: 3, column: 5, value: NaN },
      { token: 40, column: heads * headDim, value: -Infinity },
      { token: 41, column: (heads + keyValueHeads) * headDim + 2, value: Infinity },
      { token: 50, column: (heads + keyValueHeads) * headDim, value: NaN },
    ];
    const { attention, spans, tensors } = tensorsOf(
      kernels,
      shape,
      (token, column, value) =>
        hits.find((hit) => hit.token === token && hit.column === column)?.value ?? value,
    );
    await kernels.run(attention.forward(kernels.rows(tokens), tensors));
    const out = await kernels.read(tensors.out, tokens * heads * headDim);
    for (let query = 0; query < tokens; query++) {
      const seen = hits.filter(({ token, column }) =>
        column < heads * headDim ? token === query : sees(spans, query, token)
      );
      for (const { column } of seen) {
        // Of the values' columns that one alone, in every head.
        const head = column < heads * headDim ? Math.floor(column / headDim) : 0;
        const d = column < (heads + keyValueHeads) * headDim ? 0 : column % headDim;
        assert.ok(
          !Number.isFinite(out[(query * heads + head) * headDim + d]),
          `query ${query}, column ${column}`,
        );
      }
    }
  },
  missing,
);

const OTHERWISE = { memory: "workgroup" } as const;

/** The cuts for heads of that size, and their kernels. */
function kernelsOf(matrices: typeof MATRICES.small, precision: MatrixPrecision, headDim: number) {
  const shape = { heads: 4, keyValueHeads: 2, headDim };
  const stride = 8 * headDim;
  const layout = { queries: { stride, first: 0 }, keys: { stride, first: 4 * headDim } };
  return [matrixForwardSource, matrixQueryGradientSource, matrixKeyGradientSource].flatMap((source, i) => {
    const own = i === 0 ? 1 : 2;
    const cut = matrixCut(shape, own, { memory: "matrix", precision, ...matrices, otherwise: OTHERWISE });
    if (!cut) return [];
    return [{ bytes: matrixAttentionBytes(cut, own), source: source(shape, layout, cut, 12) }];
  });
}

Deno.test("attention by matrices has the workgroup memory that it says, and a device allows; or it is not taken", () => {
  for (const [name, matrices] of Object.entries(MATRICES)) {
    for (const precision of ["high", "medium"] as const) {
      for (const headDim of [16, 64, 80, 256]) {
        for (const workgroupBytes of [2 ** 14, 2 ** 16]) {
          const kernels = kernelsOf({ ...matrices, workgroupBytes }, precision, headDim);
          assert.equal(kernels.length, workgroupBytes > 2 ** 14 || precision === "medium" ? 3 : 0);
          for (const { bytes, source } of kernels) {
            const found = [...source.matchAll(/var<workgroup> \w+: array<(f16|f32), (\d+)>/g)]
              .reduce((sum, [, type, length]) => sum + (type === "f16" ? 2 : 4) * Number(length), 0);
            assert.equal(found, bytes);
            assert.ok(bytes <= Math.min(workgroupBytes, 2 ** 15), `${name} ${precision} ${headDim}`);
          }
        }
      }
      assert.deepEqual(kernelsOf(matrices, precision, 18), []);
      assert.deepEqual(kernelsOf({ ...matrices, m: 64 }, precision, 64), []);
    }
  }
});

deviceTest("attention's kernels for an NVIDIA GPU's matrices are WGSL", async ({ gpu }) => {
  for (const precision of ["high", "medium"] as const) {
    for (const { source } of kernelsOf(MATRICES.large, precision, 64)) {
      gpu.device.pushErrorScope("validation");
      gpu.device.createShaderModule({
        code: `enable f16, subgroups, chromium_experimental_subgroup_matrix;\n${source}`,
      });
      assert.equal((await gpu.device.popErrorScope())?.message, undefined);
    }
  }
}, missing);
