/** Which of the matrices that an adapter lists kernels take, and whether those of float32 are. */
import assert from "node:assert/strict";
import { describeAdapter } from "../../lib/gpu/device.ts";
import { isFloat32, matricesOf, operandsOfProof } from "../../lib/gpu/matrices.ts";
import {
  attentionTiles,
  attentionTilesBeside,
  FLOAT32_MATRIX,
  isRate,
  isTuningRecord,
  suits,
  tilesOf,
  usualTuning,
} from "../../lib/gpu/tuning.ts";
import { MATRICES } from "../kernels/subgroups.ts";

const FEATURES = ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups"];

/** An adapter with those matrices, in subgroups of 32, and its device. */
function adapterOf(
  kinds: [type: string, result: string, M: number, N: number, K: number][],
  sizes = [32, 32],
) {
  const subgroupMatrixConfigs = kinds.map(([componentType, resultComponentType, M, N, K]) => ({
    ...{ componentType, resultComponentType, M, N, K },
  }));
  const [subgroupMinSize, subgroupMaxSize] = sizes;
  const info = { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs };
  const adapter = { info } as unknown as GPUAdapter;
  const device = {
    features: new Set(FEATURES),
    limits: { maxComputeWorkgroupStorageSize: 2 ** 15 },
  } as unknown as GPUDevice;
  return (type: "f16" | "f32") => matricesOf(adapter, device, type);
}

Deno.test("an Apple GPU's matrices of float32 are taken, and of float16 none whose sums are float16", () => {
  const apple = adapterOf([["f32", "f32", 8, 8, 8], ["f16", "f16", 8, 8, 8]]);
  assert.deepEqual(apple("f32"), MATRICES.apple);
  assert.equal(apple("f16"), undefined);
  const both = adapterOf([["f16", "f32", 8, 8, 8], ["f16", "f32", 16, 16, 16], ["f32", "f32", 16, 16, 8]]);
  assert.deepEqual([both("f16")?.k, both("f32")?.k], [16, 8]);
});

Deno.test("matrices that no thread's vec4s divide, or in subgroups of unknown size, are not taken", () => {
  const kinds = [[64, 64, 8], [8, 8, 3], [8, 6, 8], [2, 4, 8]].map(([M, N, K]) =>
    ["f32", "f32", M, N, K] as ["f32", "f32", number, number, number]
  );
  for (const kind of kinds) assert.equal(adapterOf([kind])("f32"), undefined, `${kind}`);
  assert.equal(adapterOf([["f32", "f32", 8, 8, 8]], [4, 64])("f32"), undefined);
});

type Rounded = (value: number) => number;
/** To so many bits of a float32's 24, to the nearest or towards 0. */
const toBits = (bits: number, isNearest = true): Rounded => (value) => {
  const [word] = new Uint32Array(Float32Array.of(value).buffer);
  const unit = 2 ** (24 - bits);
  return new Float32Array(Uint32Array.of((word + (isNearest ? unit / 2 : 0)) & -unit).buffer)[0];
};

/** The sums of the proof's products, of operands that are rounded first and in sums that are. */
function sumsOf({ m, n, k }: typeof MATRICES.apple, operand: Rounded, sum: Rounded): Float32Array {
  const operands = operandsOfProof({ m, n, k });
  return Float32Array.from({ length: 3 * m * n }, (_, i) => {
    const [product, row, column] = [Math.floor(i / (m * n)), Math.floor(i / n) % m, i % n];
    let total = 0;
    for (let inner = 0; inner < 2 * k; inner++) {
      const a = operands[(product * m + row) * k + inner % k];
      const b = operands[3 * m * k + (product * k + inner % k) * n + column];
      total = sum(total + operand(a) * operand(b));
    }
    return total;
  });
}

Deno.test("matrices are of float32 where no operand and no sum is rounded to less", () => {
  const exact: Rounded = (value) => value;
  const is = (shape: typeof MATRICES.apple, operand: Rounded, sum: Rounded) =>
    isFloat32(shape, operandsOfProof(shape), sumsOf(shape, operand, sum));
  for (const shape of [MATRICES.apple, MATRICES.large, { ...MATRICES.large, m: 8, k: 4 }]) {
    for (const sum of [exact, Math.fround, toBits(24, false)]) assert.ok(is(shape, exact, sum));
    // TF32, bfloat16, two of it together, and a bit less than float32.
    for (const bits of [11, 8, 16, 23]) {
      for (const isNearest of [true, false]) {
        assert.ok(!is(shape, toBits(bits, isNearest), Math.fround), `${bits} bits`);
      }
    }
    for (const bits of [11, 16]) assert.ok(!is(shape, exact, toBits(bits)), `sums of ${bits} bits`);
    const wrong = sumsOf(shape, exact, Math.fround);
    wrong[wrong.length - 1] = NaN;
    assert.ok(!isFloat32(shape, operandsOfProof(shape), wrong));
  }
});

Deno.test("an adapter whose matrices of float32 round is told", () => {
  const gpu = { name: "a GPU", isSoftware: false, toggles: [] };
  assert.equal(describeAdapter({ ...gpu, roundsFloat32: false }), "a GPU");
  assert.match(describeAdapter({ ...gpu, roundsFloat32: true }), /^a GPU, whose matrices of float32 round /);
});

Deno.test("a record that names tiles of float32 matrices is for devices that have them, in any precision", () => {
  const device = { isSoftware: false, float32Matrices: MATRICES.apple };
  for (const precision of [undefined, "high"] as const) {
    const { buffer, ...usual } = usualTuning("gpu");
    const record = { ...usual, buffer: { ...buffer, "nt wide": FLOAT32_MATRIX } as const, precision };
    assert.ok(isTuningRecord(JSON.parse(JSON.stringify(record))));
    assert.deepEqual([suits(record, device), suits(record, { matrices: MATRICES.large })], [true, false]);
    const tiles = tilesOf(record, device);
    const tile = tiles.buffer["nt wide"];
    assert.ok(tile.memory === "matrix" && tile.precision === "highest");
    assert.throws(() => tilesOf(record, { isSoftware: false, matrices: MATRICES.large }), RangeError);
    // Attention has none of them.
    const beside = attentionTilesBeside(tiles, { ...device, matrices: MATRICES.large });
    assert.deepEqual(beside, attentionTiles("gpu"));
  }
  assert.ok(isRate({ shape: "nt wide", way: FLOAT32_MATRIX, rate: 1 }));
});
