/** Whether an access that is out of bounds is seen, of every kind that kernels have. */
import assert from "node:assert/strict";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { checkedSource } from "./checked_source.ts";
import { BoundsWatch, RUNTIME } from "./watch.ts";

const HEAD = `
struct Numbers { n: u32, m: i32, words: array<vec4u, 3> }
alias E = vec4f;
const LENGTH = 6u;
@group(0) @binding(0) var<uniform> numbers: Numbers;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var b: texture_storage_2d<rgba32float, write>;
@group(0) @binding(5) var<storage, read_write> counts: array<atomic<u32>, 4>;
var<workgroup> tile: array<vec2f, LENGTH * 2u>;
var<private> own: array<f32, 5>;
fn four(i: u32) -> vec4f {
  return x[i];
}
@compute @workgroup_size(1)
fn main() {
  // Each binding is used.
  let n = numbers.n;
  y[0] = x[0].x + f32(numbers.words[0].x) + f32(atomicLoad(&counts[0]));
  textureStore(b, vec2u(), textureLoad(a, vec2u()));
  y[1] = four(n).y;
`;

/** A statement, what of it is indexed, by how much too far for n = 3, and for n = 2 not at all. */
const PLANTED: [statement: string, what: string, excess: number][] = [
  ["y[1] = x[n].x;", "x", 1],
  ["y[1] = x[4u * n - 8u].x;", "x", 2],
  ["y[1] = x[2u - n].x;", "x", 2 ** 32 - 3],
  ["y[1] = x[i32(2u - n)].x;", "x", 2 ** 32 - 3],
  ["y[2u * n] = 1.0;", "y", 1],
  ["y[2u * n] += 1.0;", "y", 1],
  ["y[u32(x[n - 2u].x) + 6u * (n - 2u)] = 1.0;", "y", 1],
  ["y[1] = x[x_of(n)].x;", "x", 1],
  ["y[1] = f32(numbers.words[n].y);", "numbers.words", 1],
  ["let row = numbers.words[1]; y[1] = f32(row[n + 1u]);", "row", 1],
  ["y[1] = four(0u)[n + 1u];", "four(0u)", 1],
  ["y[1] = x[1].xy[n - 1u];", "x[1].xy", 1],
  ["y[1] = (x[1] * 2.0)[n + 1u];", "(x[1]*2.0)", 1],
  ["y[1] = bitcast<vec2f>(vec2u(n))[n - 1u];", "bitcast<vec2f>(vec2u(n))", 1],
  ["tile[n * 4u] = vec2f();", "tile", 1],
  ["y[1] = tile[n * 4u - 1u * (n - 2u)].x + tile[n * 4u].y;", "tile", 1],
  ["own[n + 2u] = 1.0; y[1] = own[1];", "own", 1],
  ["var parts: array<vec3f, 3>; parts[n] = vec3f(); y[1] = parts[1].x;", "parts", 1],
  ["for (var i = 0u; i <= n; i += 1u) { y[1] += x[i].x; }", "x", 1],
  ["if (n < 9u && x[n].x > 0.0) { y[1] = 2.0; }", "x", 1],
  ["y[1] = select(1.0, x[n].x, n < 3u);", "x", 1],
  ["atomicAdd(&counts[n + 1u], 1u);", "counts", 1],
  ["y[1] = textureLoad(a, vec2u(n + 1u, 0u)).x;", "a", 1],
  ["y[1] = textureLoad(a, vec2i(0, numbers.m)).x;", "a", 2 ** 32 - 2],
  ["textureStore(b, vec2u(1u, n - 1u), vec4f());", "b", 1],
];

const kernel = (...statements: string[]) =>
  `${HEAD}${statements.map((text) => `  { ${text} }`).join("\n")}\n}\nfn x_of(n: u32) -> u32 { return n; }`;

const watch = new BoundsWatch(RUNTIME);

Deno.test("each access that is out of bounds is told with its kernel, by how far, and no other is", async () => {
  const gpu = await openGpu();
  const { device } = gpu;
  const pipelines = new Pipelines(gpu);
  const buffer = (size: number, words: number[] = []) => {
    const made = device.createBuffer({ size, usage: 0x40 | 0x80 | 0x08 });
    if (words.length > 0) device.queue.writeBuffer(made, 0, Uint32Array.from(words));
    return made;
  };
  const texture = () =>
    device.createTexture({ size: [4, 2], format: "rgba32float", usage: GPUTextureUsage.STORAGE_BINDING });
  const storage = [buffer(256), buffer(256)];
  const bind = (pipeline: GPUComputePipeline, n: number) =>
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [
        { buffer: buffer(64, [n, 2 - n]) },
        // What is out of bounds of a binding is in the buffer.
        { buffer: storage[0], size: 48 },
        { buffer: storage[1], size: 24 },
        texture().createView(),
        texture().createView(),
        { buffer: buffer(16) },
      ].map((resource, binding) => ({ binding, resource })),
    });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const n of [2, 3]) {
    // Another text, so that it has notes of its own.
    const source = `${kernel(...PLANTED.map(([statement]) => statement))}\n// ${n}`;
    const pipeline = await pipelines.compile(`n = ${n}`, source);
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bind(pipeline, n));
    pass.dispatchWorkgroups(1);
  }
  pass.end();
  device.queue.submit([encoder.finish()]);
  gpu.check();
  gpu.destroy();
  const found = (await watch.accesses()).filter(({ excess }) => excess > 0);
  assert.deepEqual(
    found.map(({ kernel, line, what, excess }) => [kernel, line, what, excess]),
    [
      ["n = 3", "return x[i];", "x", 1],
      ...PLANTED.map(([statement, ...told]) => ["n = 3", `{ ${statement} }`, ...told]),
    ],
  );
});

Deno.test("of what was never come by it is told that it was not", async () => {
  const gpu = await openGpu();
  const pipelines = new Pipelines(gpu);
  const source = `
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1) fn main() {
  if (y[0] > 0u) { y[1] = 1u; }
}`;
  const pipeline = await pipelines.compile("branches", source);
  const buffer = gpu.device.createBuffer({ size: 8, usage: GPUBufferUsage.STORAGE });
  const layout = pipeline.getBindGroupLayout(0);
  const bindGroup = gpu.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] });
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindGroup);
  pass.dispatchWorkgroups(1);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
  gpu.destroy();
  const accesses = (await watch.accesses()).filter(({ kernel }) => kernel === "branches");
  assert.deepEqual(accesses.map(({ isReached }) => isReached), [true, false]);
});

Deno.test("what subgroup matrices are loaded from and stored to is looked at as a whole", () => {
  const { code, sites } = checkedSource(`
const PITCH = 24u;
var<workgroup> tile: array<f16, 4 * 24>;
var<workgroup> sums: array<f32, 64>;
fn main(step: u32) {
  let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 8, 4>, row_major>(&tile, step * 2u, PITCH);
  let b = subgroupMatrixLoad<subgroup_matrix_right<f16, 8, 4>, col_major>(&tile, step, PITCH);
  var sum = subgroup_matrix_result<f32, 8, 4>();
  subgroupMatrixStore<row_major>(&sums, step, sum, 8u);
}`);
  assert.deepEqual(sites.map(({ what }) => what), ["tile", "tile", "sums"]);
  for (
    const span of [
      "(&tile, bounds_span_0(step * 2u, (4 - 1u) * (PITCH) + 8, u32(4 * 24)), PITCH)",
      "(&tile, bounds_span_1(step, (8 - 1u) * (PITCH) + 4, u32(4 * 24)), PITCH)",
      "(&sums, bounds_span_2(step, (4 - 1u) * (8u) + 8, u32(64)), sum, 8u)",
    ]
  ) assert.ok(code.includes(span), code);
});

Deno.test("what is not understood is refused", () => {
  for (const statement of ["y[0] = unknown(1u)[n];", "y[0] = what.is[n];", "y[0] = n[n];"]) {
    assert.throws(() => checkedSource(kernel(statement)), /is not understood/);
  }
});
