import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import type { AttentionLayout, AttentionShape } from "../../kernels/attention.ts";
import { matrixCut } from "../../kernels/attention_matrix.ts";
import {
  matrixKeyGradientSource,
  matrixQueryGradientSource,
} from "../../kernels/attention_matrix_backward.ts";
import { matrixForwardSource } from "../../kernels/attention_matrix_forward.ts";
import { queryForwardSource } from "../../kernels/attention_queries.ts";
import { workgroupForwardSource } from "../../kernels/attention_workgroup_forward.ts";
import {
  workgroupKeyGradientSource,
  workgroupQueryGradientSource,
} from "../../kernels/attention_workgroup_backward.ts";
import type { GemmLayout, GemmTile } from "../../kernels/gemm.ts";
import { matrixTile } from "../../kernels/gemm_matrix.ts";
import { gemmSource } from "../../kernels/gemm_source.ts";
import type { Epilogue } from "../../kernels/gemm_epilogue.ts";
import { BUFFER_TILES, rowTiles } from "../../lib/gpu/tuning.ts";
import { inlined, missingBarriers } from "./barriers.ts";
import { MATRICES } from "./subgroups.ts";

/** Files that emit kernels with workgroup memory, whose variants `SOURCES` has. */
const EMITTERS = [
  "attention_matrix.ts",
  "attention_matrix_backward.ts",
  "attention_matrix_forward.ts",
  "attention_matrix_products.ts",
  "attention_queries.ts",
  "attention_workgroup_backward.ts",
  "attention_workgroup_forward.ts",
  "gemm_matrix.ts",
  "gemm_matrix_operand.ts",
  "gemm_row.ts",
  "gemm_workgroup.ts",
];

const SHAPES: AttentionShape[] = [
  { heads: 3, keyValueHeads: 1, headDim: 5 },
  { heads: 4, keyValueHeads: 2, headDim: 64, softcap: 50 },
  { heads: 8, keyValueHeads: 8, headDim: 128 },
];
const LAYOUTS: GemmLayout[] = ["nt", "nn", "tn"];
const EPILOGUES: Epilogue[] = [
  { kind: "none" },
  { bias: true, kind: "residual" },
  { kind: "glu", activation: "gelu" },
  { kind: "glu_backward", activation: "silu" },
  { bias: true, kind: "activation", activation: "gelu_new" },
  { kind: "activation_backward", activation: "relu2" },
  { bias: true, kind: "rope" },
  { kind: "part" },
];

/** Queries, keys and values of one tensor. */
function layoutOf({ heads, keyValueHeads, headDim }: AttentionShape): AttentionLayout {
  const stride = (heads + 2 * keyValueHeads) * headDim;
  return { queries: { stride, first: 0 }, keys: { stride, first: heads * headDim } };
}

/** Every product of a tile; what there is not is refused by a RangeError. */
function* products(base: GemmTile): Generator<[string, string]> {
  const tiles = base.memory === "workgroup" ? [base, { ...base, depth: 32 } as const] : [base];
  for (const tile of base.memory === "storage" ? [] : tiles) {
    for (const layout of LAYOUTS) {
      for (const epilogue of EPILOGUES) {
        for (const aligned of [true, false]) {
          const variant = { layout, epilogue, aligned, tail: true, weights: "f32" } as const;
          try {
            yield [`gemm ${JSON.stringify({ ...variant, ...tile })}`, gemmSource(variant, tile)];
          } catch (error) {
            if (!(error instanceof RangeError)) throw error;
          }
        }
      }
    }
  }
}

const files = await readdir("kernels");
const wgsl = (name: string) => readFile(`kernels/${name}`, "utf8");
const NORM_PARTS = await wgsl("norm_parts.wgsl");
/** A kernel of norms with the sum that stands in their common part. */
const normKernel = (source: string) =>
  /\bsum_of_part\(/.test(source) ? inlined(NORM_PARTS + source, "sum_of_part") : source;
/** Of them every kind has other barriers. */
const KINDS = [{ "LAYER == 1u": false }, { "LAYER == 1u": true }];
const missing = (source: string) => KINDS.flatMap((kind) => missingBarriers(source, kind));

/** Attention by matrices, in one piece of columns, with rows that stay, and in several. */
const matrixAttention = (["medium", "high"] as const).flatMap((precision) => {
  const shape = { heads: 4, keyValueHeads: 2, headDim: 64 };
  const layout = layoutOf(shape);
  const cut = (own: 1 | 2) =>
    matrixCut(shape, own, {
      memory: "matrix",
      precision,
      ...MATRICES.large,
      workgroupBytes: 24 * 1024,
      otherwise: { memory: "workgroup" },
    })!;
  assert.deepEqual([cut(2).isResident, cut(2).depth], precision === "medium" ? [true, 64] : [false, 32]);
  return [
    [`attention by matrices ${precision}`, matrixForwardSource(shape, layout, cut(1), 12)],
    [`queries by matrices ${precision}`, matrixQueryGradientSource(shape, layout, cut(2), 12)],
    [`keys by matrices ${precision}`, matrixKeyGradientSource(shape, layout, cut(2), 12)],
  ] as [string, string][];
});

/** Every kernel that has workgroup memory or a barrier. */
const SOURCES: [name: string, source: string][] = [
  ...SHAPES.flatMap((shape): [string, string][] => [
    [`attention forward ${shape.headDim}`, workgroupForwardSource(shape, layoutOf(shape))],
    [`attention a query ${shape.headDim}`, queryForwardSource(shape, layoutOf(shape))],
    [`attention queries ${shape.headDim}`, workgroupQueryGradientSource(shape, layoutOf(shape))],
    [`attention keys ${shape.headDim}`, workgroupKeyGradientSource(shape, layoutOf(shape))],
    [
      `attention queries, kept ${shape.headDim}`,
      workgroupQueryGradientSource(shape, layoutOf(shape), { heads: shape.heads }),
    ],
  ]),
  ...matrixAttention,
  ...Object.values(BUFFER_TILES).flatMap((tile) => [...products(tile)]),
  ...products(matrixTile(MATRICES.large, "high")!),
  ...products(matrixTile(MATRICES.apple, "highest")!),
  ...[1, 16].flatMap((rows) => [...products(rowTiles("gpu", rows).buffer["nt wide"])]),
  ...await Promise.all(
    files.filter((name) => /^(?!loss_|norm_parts|optimizer_step|adamw|lion).*\.wgsl$/.test(name))
      .map(async (name): Promise<[string, string]> => [name, normKernel(await wgsl(name))]),
  ),
];
const BARRIER = "workgroupBarrier();";

Deno.test("every kernel has a barrier between the writing and the reading of workgroup memory, and before it is used again", () => {
  for (const [name, source] of SOURCES) assert.deepEqual(missing(source), [], name);
  const shared = SOURCES.filter(([, source]) => source.includes("var<workgroup>"));
  assert.ok(shared.length > 50, `${shared.length}`);
  assert.ok(shared.every(([, source]) => source.includes(BARRIER)));
});

Deno.test("no other file emits kernels with workgroup memory", async () => {
  const found: string[] = [];
  for (const name of files.filter((name) => name.endsWith(".ts"))) {
    if (/var<workgroup>|workgroupBarrier/.test(await readFile(`kernels/${name}`, "utf8"))) found.push(name);
  }
  assert.deepEqual(found.sort(), EMITTERS);
});

/**
 * Barriers that are there though the ones around them would do: forward, before the maxima and before the sums are
 * written; before a norm's first sum, and before the one sum of an RMSNorm, which has none.
 */
const SPARE: Record<string, number[]> = {
  "attention forward": [0, 3],
  "norm.wgsl": [0, 4],
  "norm_backward.wgsl": [0],
};

Deno.test("a kernel that lacks any one of its barriers is found out", () => {
  for (const [name, source] of SOURCES) {
    const places = [...source.matchAll(/workgroupBarrier\(\);/g)].map(({ index }) => index);
    const spare = Object.entries(SPARE).find(([begin]) => name.startsWith(begin))?.[1] ?? [];
    for (const [i, at] of places.entries()) {
      const without = source.slice(0, at) + source.slice(at + BARRIER.length);
      const isFound = missing(without).length > 0;
      assert.equal(isFound, !spare.includes(i), `${name} without barrier ${i}`);
    }
  }
});

const kernel = (body: string) =>
  `var<workgroup> w: array<f32, 64>;
var<workgroup> other: f32;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
${body}
}`;

Deno.test("races are found in straight lines, branches and from one pass of a loop to the next", () => {
  const racing: [string, RegExp][] = [
    ["w[local] = 1.0; let x = w[63u - local];", /^w is read after a write: let x = w\[63u - local\]$/],
    ["let x = w[0]; w[local] = x;", /^w is written after a read: w\[local\] = x$/],
    ["w[local] = 1.0; if (w[0] == 1.0) { return; }", /^w is read after a write: \(w\[0\] == 1.0\)$/],
    ["w[local] += 1.0;", /^w is written after a read/],
    [
      "if (local == 0u) { other = 1.0; } else { let y = other; }\nlet x = other;",
      /^other is read after a write/,
    ],
    [
      "for (var i = 0u; i < 4u; i += 1u) { w[local] = 1.0; workgroupBarrier(); let x = w[i]; }",
      /^w is written after a read: w\[local\] = 1.0$/,
    ],
    [
      "for (var i = 0u; i < 4u; i += 1u) { w[i] = 1.0; if (i == 2u) { break; } workgroupBarrier(); }\nlet x = w[0];",
      /^w is read after a write/,
    ],
    ["if (local == 0u) { workgroupBarrier(); }", /not all threads may come by/],
  ];
  for (const [body, says] of racing) {
    const found = missingBarriers(kernel(body));
    assert.ok(found.length > 0 && says.test(found[0]), `${body}: ${found.join()}`);
  }
  const sound = [
    "w[local] = 1.0; w[local + 1u] = 2.0; workgroupBarrier(); let x = w[0] + w[1];",
    "if (local == 0u) { other = 1.0; }\nworkgroupBarrier(); let x = other;",
    "for (var i = 0u; i < 4u; i += 1u) { workgroupBarrier(); w[local] = 1.0; workgroupBarrier(); let x = w[i]; }",
    "w[local] = 1.0; if (local != 0u) { return; } let v = local; // w[0]",
    "let row = v.w; v.w = 2u;",
  ];
  for (const body of sound) assert.deepEqual(missingBarriers(kernel(body)), [], body);
});

Deno.test("what is not understood is refused, never passed over", () => {
  for (
    const body of [
      "while (true) { }",
      "let p = &w;",
      "let x = workgroupUniformLoad(&other);",
      "storageBarrier();",
    ]
  ) {
    assert.throws(() => missingBarriers(kernel(body)), /not understood/, body);
  }
  assert.throws(
    () => missingBarriers("fn f() -> f32 { return w[0]; }\n" + kernel("")),
    /used outside of main/,
  );
});
