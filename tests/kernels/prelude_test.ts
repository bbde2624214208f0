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

kernelTest("tanh_accurate() is right to a few roundings near 0 and far out", [{}], async (kernels) => {
  const far = [0, 0.625, 9, 10, 44, 46, 100, 3e38].flatMap((value) => [value, -value]);
  const x = Float32Array.of(...far, ...kernels.values(2000, 0.01), ...kernels.values(3000, 2));
  const y = kernels.tensor([x.length]);
  await kernels.run([{
    label: "tanh",
    source: withPrelude(sourceOf("tanh_accurate"), {}),
    bindings: [kernels.rows(x.length).tensor, kernels.tensor([x.length], x), y],
    grid: () => line(Math.ceil(x.length / 64)),
  }]);
  const found = await kernels.read(y, x.length);
  const ratios = Float64Array.from(x, (value, i) => value === 0 ? 1 + found[i] : found[i] / Math.tanh(value));
  assertClose(ratios, ratios.map(() => 1), { tolerance: 2e-7 }, "ratio to tanh");
});
