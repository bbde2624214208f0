/**
 * Matrix products in the three layouts: a linear layer forward (nt), its input gradient (nn) and weight gradient
 * (tn).
 */
import type { Tensor } from "../lib/gpu/memory.ts";
import type { GemmLayout } from "../kernels/gemm.ts";
import type { KernelCall } from "../lib/gpu/program.ts";
import { Workbench } from "./harness.ts";
import { Suite } from "./suite.ts";

/** y[rows, outputs] = x[rows, inputs] w[outputs, inputs]^T. */
interface Linear {
  name: string;
  rows: number;
  inputs: number;
  outputs: number;
  layouts?: (GemmLayout | "nt + residual" | "tn + sum")[];
}

const suite = await Suite.open();

/** Llama-3-8B's gate projection in as few equal parts as a binding of this adapter needs. */
const gateBytes = 14336 * 4096 * 4;
const parts = Math.ceil(gateBytes / suite.gpu.device.limits.maxStorageBufferBindingSize);

const linears: Linear[] = [
  {
    name: "square",
    rows: 1024,
    inputs: 1024,
    outputs: 1024,
    layouts: ["nt", "nn", "tn", "nt + residual", "tn + sum"],
  },
  { name: "SmolLM2-135M qkv", rows: 512, inputs: 576, outputs: 960 },
  { name: "SmolLM2-135M gate+up", rows: 512, inputs: 576, outputs: 3072 },
  { name: "SmolLM2-135M down", rows: 512, inputs: 1536, outputs: 576 },
  { name: "SmolLM2-135M head", rows: 512, inputs: 576, outputs: 49152 },
  { name: "Llama-3-8B qkv", rows: 256, inputs: 4096, outputs: 6144 },
  {
    name: `Llama-3-8B gate${parts > 1 ? ` 1/${parts}` : ""}`,
    rows: 128,
    inputs: 4096,
    outputs: 14336 / parts,
    layouts: ["nt"],
  },
];

const bench = new Workbench(suite.gpu, suite.tiles);
const plans = linears.map(({ name, rows, inputs, outputs, layouts = ["nt", "nn", "tn"] }) => {
  const slot = bench.rows(rows);
  const x = bench.filled("x", rows, inputs);
  const w = bench.filled("w", outputs, inputs);
  const y = bench.filled("y", rows, outputs);
  /** Results have their own place: a product of its own results would grow to infinity. */
  const result = (...shape: number[]): Tensor => bench.tensor("result", ...shape);
  const { products } = bench;
  const calls: Record<string, () => KernelCall[]> = {
    nt: () => products.calls("nt", slot, { a: x, b: w, c: result(rows, outputs) }),
    nn: () => products.calls("nn", slot, { a: y, b: w, c: result(rows, inputs) }),
    tn: () => products.calls("tn", slot, { a: y, b: x, c: result(outputs, inputs) }),
    "nt + residual": () => products.calls("nt", slot, { a: x, b: w, c: result(rows, outputs), residual: y }),
    "tn + sum": () =>
      products.calls("tn", slot, { a: y, b: x, c: result(outputs, inputs) }, { adds: "accumulating" }),
  };
  const sizes: Record<string, string> = {
    nt: `${rows}x${outputs}x${inputs}`,
    nn: `${rows}x${inputs}x${outputs}`,
    tn: `${outputs}x${inputs}x${rows}`,
  };
  return layouts.map((layout) => ({
    name: `gemm ${layout} ${name} ${sizes[layout.slice(0, 2)]}`,
    flops: 2 * rows * inputs * outputs,
    calls: calls[layout](),
  }));
}).flat();

await bench.allocate(suite.gpu);
for (const { name, flops, calls } of plans) {
  await suite.add(name, { flops }, await bench.sample(suite.pipelines, calls));
}
