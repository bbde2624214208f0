import { withPrelude } from "../../kernels/prelude.ts";
import { line } from "../../lib/gpu/program.ts";
import { assertClose, kernelTest, useGpu } from "./harness.ts";

useGpu();

const sourceOf = (name: string) => `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i < rows.count) { y[i] = ${name}(x[i]); }
}`;

kernelTest(
  "exp_accurate() is right to a few roundings, and 0 where the result is not normal",
  [{}],
  async (kernels) => {
    const count = 5000;
    const x = Float32Array.from({ length: count }, () => -87 + 107 * kernels.uniform());
    const tiny = Float32Array.of(-87.5, -100, -1e5, -3e38);
    const y = kernels.tensor([count + tiny.length]);
    const all = count + tiny.length;
    await kernels.run([{
      label: "exp",
      source: withPrelude(sourceOf("exp_accurate"), {}),
      bindings: [kernels.rows(all).tensor, kernels.tensor([all], Float32Array.of(...x, ...tiny)), y],
      grid: () => line(Math.ceil(all / 64)),
    }]);
    const found = await kernels.read(y, all);
    // Two or three roundings of 6e-8; the driver's own exp would be off by 4e-6 out here.
    const ratios = Float64Array.from(x, (value, i) => found[i] / Math.exp(value));
    assertClose(ratios, ratios.map(() => 1), { tolerance: 2e-7 }, "ratio to exp");
    assertClose(found.subarray(count), [0, 0, 0, 0], { tolerance: 0, scale: 1 }, "exp below -87");
  },
);

kernelTest("tanh_accurate() is right to a few roundings near 0 and far from it", [{}], async (kernels) => {
  const count = 5000;
  const x = Float32Array.from({ length: count }, () => 12 * kernels.uniform() - 6);
  for (let i = 0; i < count; i += 2) x[i] /= 10;
  const ends = Float32Array.of(-3e38, -1e5, -100, 100, 1e5, 3e38, Infinity, 0, 1e-30);
  const all = count + ends.length;
  const y = kernels.tensor([all]);
  await kernels.run([{
    label: "tanh",
    source: withPrelude(sourceOf("tanh_accurate"), {}),
    bindings: [kernels.rows(all).tensor, kernels.tensor([all], Float32Array.of(...x, ...ends)), y],
    grid: () => line(Math.ceil(all / 64)),
  }]);
  const found = await kernels.read(y, all);
  const ratios = Float64Array.from(x, (value, i) => value === 0 ? 1 : found[i] / Math.tanh(value));
  assertClose(ratios, ratios.map(() => 1), { tolerance: 3e-7 }, "ratio to tanh");
  assertClose(
    found.subarray(count),
    [-1, -1, -1, 1, 1, 1, 1, 0, Math.fround(1e-30)],
    { tolerance: 0 },
    "its ends",
  );
});
