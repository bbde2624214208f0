/** Products of float32 matrices on devices whose subgroups multiply none: the same kernel, with loops in place. */
import assert from "node:assert/strict";
import type { MatrixTile } from "../../kernels/gemm.ts";

const LOAD = new RegExp(
  String.raw`let (\w)(\d)_whole = subgroupMatrixLoad<subgroup_matrix_(left|right)<f32, (\d+), (\d+)>, ` +
    String.raw`(row|col)_major>\(&(\w+), (.*), (\d+u)\);`,
  "g",
);

/**
 * `source` with every `lanes` threads of a workgroup as a subgroup. What a matrix of operands is loaded from stays in
 * workgroup memory until it is multiplied, so it is known by its place there; of a matrix of sums each thread has some
 * elements that follow each other, as in no device known. All products of a step are one call: a driver on the
 * processor would compile sixteen for minutes.
 */
export function withoutMatrices(
  source: string,
  { m, n, k, lanes, matrices: [down, right] }: MatrixTile,
): string {
  const each = m * n / lanes;
  const steps = {} as Record<"left" | "right", { array: string; line: string; inner: string }>;
  const multiplied: string[] = [];
  const isLast = () => multiplied.length === down * right;
  const result = source
    .replace(
      /,\s*@builtin\(subgroup_id\) subgroup: u32\) \{/,
      `) {\n  let subgroup = index / ${lanes}u;\n  let lane = index % ${lanes}u;`,
    )
    .replace(
      LOAD,
      (_, name, i, hand: "left" | "right", width, height, order, array, place, pitch) => {
        assert.deepEqual([width, height].map(Number), hand === "left" ? [k, m] : [n, k]);
        const isAcross = (hand === "left") === (order === "row");
        steps[hand] = { array, line: isAcross ? pitch : "1u", inner: isAcross ? "1u" : pitch };
        return `${name}_places[${i}] = ${place};`;
      },
    )
    .replace(/ *var sum\d_\d: subgroup_matrix_result<f32, \d+, \d+>;/g, "")
    .replace(
      /sum(\d)_(\d) = subgroupMatrixMultiplyAccumulate\(a\1_whole, b\2_whole, sum\1_\2\);/g,
      (_, i, j) => {
        multiplied.push(`${i} ${j}`);
        return isLast() ? "multiply(lane);" : "";
      },
    )
    .replace(
      /subgroupMatrixStore<row_major>\(&(\w+), (.*), sum(\d)_(\d), (\d+)u\);/g,
      (_, array, place, i, j, pitch) => {
        assert.equal(Number(pitch), n);
        const first = (Number(i) * right + Number(j)) * each;
        const to = `${array}[${place} + lane * ${each}u + i]`;
        return `for (var i = 0u; i < ${each}u; i += 1u) { ${to} = held[${first}u + i]; }`;
      },
    );
  assert.doesNotMatch(result, /subgroup_|subgroup[A-Z]/);
  assert.ok(isLast() && new Set(multiplied).size === multiplied.length);
  const { left, right: other } = steps;
  return `${result}
var<private> a_places: array<u32, ${down}>;
var<private> b_places: array<u32, ${right}>;
var<private> held: array<f32, ${down * right * each}>;
fn multiply(lane: u32) {
  for (var e = 0u; e < ${down * right * each}u; e += 1u) {
    let at = lane * ${each}u + e % ${each}u;
    let row = a_places[e / ${right * each}u] + at / ${n}u * ${left.line};
    let column = b_places[e / ${each}u % ${right}u] + at % ${n}u * ${other.line};
    var sum = held[e];
    for (var inner = 0u; inner < ${k}u; inner += 1u) {
      sum += ${left.array}[row + inner * ${left.inner}] * ${other.array}[column + inner * ${other.inner}];
    }
    held[e] = sum;
  }
}
`;
}
