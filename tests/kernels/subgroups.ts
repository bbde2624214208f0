/** The subgroups of this machine's device, asked before the tests are known, and how to do without. */
import assert from "node:assert/strict";
import { isScaled, type MatrixPrecision, type MatrixTile, type SubgroupTile } from "../../kernels/gemm.ts";
import { matrixTile } from "../../kernels/gemm_matrix.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import type { KernelCall } from "../../lib/gpu/program.ts";
import { type ProductTile, subgroupTile, type SubgroupTileName } from "../../lib/gpu/tuning.ts";
import { withoutMatrices } from "./without_matrices.ts";

const gpu = await openGpu();
gpu.destroy();

/** Matrices as lavapipe has them, and as an NVIDIA GPU and an Apple one have. */
export const MATRICES = {
  small: { m: 8, n: 8, k: 8, lanes: 8, workgroupBytes: 2 ** 14 },
  large: { m: 16, n: 16, k: 16, lanes: 32, workgroupBytes: 2 ** 15 },
  apple: { m: 8, n: 8, k: 8, lanes: 32, workgroupBytes: 2 ** 15 },
};

/** A tile for this machine's subgroups, or, where there are none, for some. */
export const subgroupTileHere = (name: SubgroupTileName): SubgroupTile =>
  subgroupTile(name, gpu.subgroups?.minSize ?? 8, "software");

/** A tile for this machine's subgroup matrices, or, where there are none, for some; of float32 for Apple's. */
export const matrixTileHere = (precision: MatrixTile["precision"]): MatrixTile =>
  matrixTile(
    precision === "highest" ? gpu.float32Matrices ?? MATRICES.apple : gpu.matrices ?? MATRICES.small,
    precision,
  )!;

/** The same for attention. */
export const matrixAttentionHere = (precision: MatrixPrecision) =>
  ({ memory: "matrix", precision, ...gpu.matrices ?? MATRICES.small }) as const;

/**
 * What `tile`, or attention of such matrices, needs and the device lacks. Float32 ones can be done without, but not on a
 * driver so old that it has no subgroups: Mesa 22.3 takes minutes to compile what stands for them.
 */
export function missingFor(
  { memory, precision }: { memory: ProductTile["memory"]; precision?: MatrixTile["precision"] },
): string | undefined {
  if (memory === "subgroup" && !gpu.subgroups) return "subgroups";
  if (memory !== "matrix") return;
  if (precision !== "highest") return gpu.matrices ? undefined : "subgroup matrices of float16";
  return gpu.float32Matrices || gpu.subgroups ? undefined : "subgroups, nor matrices of float32";
}

/** `source` with every `size` threads of a workgroup as a subgroup: what a lane loads goes through workgroup memory. */
export function withoutSubgroups(
  source: string,
  { groupColumns: threads }: SubgroupTile,
  size: number,
): string {
  const [head, ...loops] = source
    .replace(
      /,\s*@builtin\(subgroup_invocation_id\) invocation: u32\) \{/,
      `) {\n  let invocation = index % ${size}u;`,
    )
    .split(/(?=^ {2}for \(; k < )/m);
  const passing = loops.map((loop) => {
    const component = loop.includes("= a1(") ? ".x" : "";
    return loop
      .replace(/\{\n/, "{\n    workgroupBarrier();\n")
      .replace(/(?:^ {4}let share\d+ = .*;\n)+/m, "$&    workgroupBarrier();\n")
      .replace(/let share(\d+) = (.*);/g, `passed[$1u * ${threads}u + index] = vec4f($2);`)
      .replace(
        /subgroupBroadcast\(share(\d+), (\d+)u\)/g,
        `passed[$1u * ${threads}u + index / ${size}u * ${size}u + $2u]${component}`,
      );
  });
  const shares = 1 + Math.max(...[...source.matchAll(/let share(\d+) =/g)].map(([, share]) => Number(share)));
  const result = `var<workgroup> passed: array<vec4f, ${shares * threads}>;\n${head}${passing.join("")}`;
  assert.doesNotMatch(result, /subgroup\w+\(|share\d/);
  return result;
}

/**
 * Products of `tile`, as they are or, where the device has no subgroups for it or no float32 matrices, by way of
 * workgroup memory.
 */
export function runnable(calls: KernelCall[], tile: ProductTile): KernelCall[] {
  const instead = tile.memory === "subgroup" && !gpu.subgroups
    ? (source: string) => withoutSubgroups(source, tile, tile.lanes)
    : tile.memory === "matrix" && !isScaled(tile) && !gpu.float32Matrices
    ? (source: string) => withoutMatrices(source, tile)
    : undefined;
  return calls.map((call) =>
    instead && call.source.includes("subgroup") ? { ...call, source: instead(call.source) } : call
  );
}
