/**
 * Fused queries, keys and values whose rows lie a group of heads in the checkpoint: kernels see [queries, keys,
 * values].
 */
import assert from "node:assert/strict";
import { openGpu } from "../../lib/gpu/device.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { readTensor } from "../../lib/gpu/program.ts";
import { Net } from "../../lib/graph/net.ts";
import { Parameters } from "../../lib/parameters/parameters.ts";
import { openSafetensors } from "../../lib/safetensors/read.ts";
import { saveCheckpoint } from "../../lib/safetensors/write.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const COLUMNS = 64;
/** GPT-NeoX has a key for each query; Falcon's queries share some; with one key the two orders are the same. */
const SHAPES = {
  "a key for each query": { heads: 3, keyValueHeads: 3, headDim: 6 },
  "two groups of three queries": { heads: 6, keyValueHeads: 2, headDim: 22 },
  "one key": { heads: 4, keyValueHeads: 1, headDim: 2 },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  Deno.test(`rows of a checkpoint lie a group of heads, ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      const { heads, keyValueHeads: groups, headDim } = shape;
      const rows = (heads + 2 * groups) * headDim;
      const net = new Net();
      const x = net.embedding("embed", 3, COLUMNS);
      net.layer("layer", x, (x) => net.linear(x, { qkv: rows }, { bias: true, order: shape }));
      const names = ["layer.qkv.weight", "layer.qkv.bias"];
      const sources = net.parameters.flatMap(({ parts: [part], columns, kind }) => {
        const values = Float32Array.from({ length: part.rows * columns }, () => Math.random());
        const tensorShape = kind === "bias" ? [part.rows] : [part.rows, columns];
        const chunks = () => [new Uint8Array(values.buffer)];
        return [{ name: part.name, dtype: "F32" as const, shape: tensorShape, values, chunks }];
      });
      await saveCheckpoint(folder, sources);
      const checkpoint = await openSafetensors(`${folder}/model.safetensors`);

      const gpu = await openGpu();
      const plan = new MemoryPlan();
      // Buffers of 64 rows: matrices with more are cut, at rows that no group begins with.
      const parameters = new Parameters(plan, net.parameters, 64 * COLUMNS * 4, { training: true });
      await plan.allocate(gpu);
      parameters.check(checkpoint);
      for (const kind of ["weights", "gradients", "first"] as const) {
        await parameters.load(gpu, checkpoint, kind);
        for (const spec of net.parameters.filter(({ parts: [{ name }] }) => names.includes(name))) {
          const { values } = sources.find(({ name }) => name === spec.parts[0].name)!;
          const seen = new Float32Array(values.length);
          for (const piece of parameters.trained(spec)) {
            const there = await readTensor(gpu, piece[kind]!, 0, piece.rows * spec.columns);
            seen.set(new Float32Array(there), piece.firstRow * spec.columns);
          }
          assertEqualBytes(seen, asKernelsSee(values, shape, spec.columns));
          assertEqualBytes(await parameters.read(gpu, spec.parts[0].name, kind), values);
        }
      }
      const saved = parameters.newSources(gpu, "stored").find(({ name }) => name === names[0])!;
      const bytes = (await Array.fromAsync(saved.chunks())).flatMap((chunk) => [...chunk]);
      const { values } = sources.find(({ name }) => name === names[0])!;
      assertEqualBytes(Uint8Array.from(bytes), new Uint8Array(values.buffer));
      assert.ok(rows <= 64 || parameters.pieces(net.parameters[1]).length > 1);
      await checkpoint.close();
      plan.destroy();
      gpu.destroy();
    }));
}

/** Row by row: the place of each in [queries, keys, values]. */
function asKernelsSee(
  values: Float32Array,
  { heads, keyValueHeads: groups, headDim }: (typeof SHAPES)[keyof typeof SHAPES],
  columns: number,
): Float32Array {
  const out = new Float32Array(values.length);
  const each = heads / groups;
  for (let row = 0; row < values.length / columns; row++) {
    const [head, within] = [Math.floor(row / headDim), row % headDim];
    const [group, slot] = [Math.floor(head / (each + 2)), head % (each + 2)];
    const to = slot < each ? group * each + slot : slot === each ? heads + group : heads + groups + group;
    out.set(values.subarray(row * columns, (row + 1) * columns), (to * headDim + within) * columns);
  }
  return out;
}
