/** The subgroups of this machine's device, asked before the tests are known, and how to do without. */
import assert from "node:assert/strict";
import type { GemmTile, MatrixPrecision, MatrixTile, SubgroupTile } from "../../kernels/gemm.ts";
import { matrixTile } from "../../kernels/gemm_matrix.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import type { KernelCall } from "../../lib/gpu/program.ts";
import { subgroupTile, type SubgroupTileName } from "../../lib/gpu/tuning.ts";
import { MATRICES } from "./product_case.ts";

const gpu = await openGpu();
gpu.destroy();

/** A tile for this machine's subgroups, or, where there are none, for some. */
export const subgroupTileHere = (name: SubgroupTileName): SubgroupTile =>
  subgroupTile(name, gpu.subgroups?.minSize ?? 8, "software");

/** A tile for this machine's subgroup matrices, or, where there are none, for some. */
export const matrixTileHere = (precision: MatrixPrecision): MatrixTile =>
  matrixTile(gpu.matrices ?? MATRICES.small, precision)!;

/** The same for attention. */
export const matrixAttentionHere = (precision: MatrixPrecision) =>
  ({ memory: "matrix", precision, ...gpu.matrices ?? MATRICES.small }) as const;

/** What `tile` needs and the device lacks. */
export const missingFor = ({ memory }: Pick<GemmTile, "memory">): string | undefined =>
  memory === "subgroup" && !gpu.subgroups
    ? "subgroups"
    : memory === "matrix" && !gpu.matrices
    ? "subgroup matrices of float16"
    : undefined;

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
 * Products of `tile`, as they are or, where it is for subgroups and the device has none, by way of workgroup memory.
 */
export const runnable = (calls: KernelCall[], tile: GemmTile): KernelCall[] =>
  tile.memory !== "subgroup" || gpu.subgroups ? calls : calls.map((call) => ({
    ...call,
    source: call.source.includes("subgroup") ? withoutSubgroups(call.source, tile, tile.lanes) : call.source,
  }));
