import type { Edits } from "./mutants.ts";

const GRAPH = ["tests/graph/adapters_test.ts"];
const GOLDEN = ["tests/adapters/golden_test.ts"];
const REFUSALS = ["tests/adapters/refusals_test.ts"];
const RUN = ["tests/adapters/run_test.ts"];

/** Adapters: what they add to a product, their gradients, and their files. */
export const ADAPTERS: readonly Edits[] = [
  {
    file: "lib/graph/ops/adapter.ts",
    tests: GRAPH,
    filter: "how the loss changes",
    edits: [
      [
        "what dropout leaves out has a gradient",
        "dropout(rows, mask, { x: into, y: dX }",
        "dropout(rows, { ...mask, place: 99 }, { x: into, y: dX }",
      ],
      ["first factors learn from all of x", "{ dY: own.tensor, x: dropped }", "{ dY: own.tensor, x }"],
      ["modules of a matrix drop the same", "place: firstPlace + i", "place: firstPlace"],
      [
        "factors' gradients lack the scale",
        "{ scale: adapter.scale }),\n  ]);",
        "{}),\n  ]);",
      ],
    ],
  },
  {
    file: "lib/gpu/program.ts",
    tests: ["tests/kernels/gemm_test.ts"],
    filter: "copied again",
    edits: [["a texture keeps what has changed", "for (const copy of outdates) held.delete(copy);", ""]],
  },
  {
    file: "kernels/dora_magnitude_backward.wgsl",
    tests: GRAPH,
    filter: "how the loss changes",
    edits: [["the adapters' part of a magnitude is left out", "k < RANK;", "k < 0u;"]],
  },
  {
    file: "kernels/gemm_epilogue.ts",
    tests: GRAPH,
    filter: "how the loss changes",
    edits: [["a rotated product loses what is there", "    a += c[i];\n", ""]],
  },
  {
    file: "kernels/dora_norm.wgsl",
    tests: GOLDEN,
    filter: "dora: eight",
    edits: [["the length of a row is that of the weights", "+ SCALE_F * delta", ""]],
  },
  {
    file: "lib/adapters/merge.ts",
    tests: GOLDEN,
    filter: "merged",
    edits: [["rows keep the length that they come to", "if (!magnitude) continue;", "continue;"]],
  },
  {
    file: "lib/adapters/modules.ts",
    tests: REFUSALS,
    edits: [
      ["what is trained whole is adapted too", "filter((name) => !whole.has(name))", "filter(() => true)"],
    ],
  },
  {
    file: "lib/adapters/settings.ts",
    tests: REFUSALS,
    edits: [["the end of a name may be a part of a word", "name.endsWith(`.${end}`)", "name.endsWith(end)"]],
  },
  {
    file: "lib/checkpoint/tensors.ts",
    tests: RUN,
    edits: [
      [
        "checkpoints of adapters hold the model",
        "masters.filter(({ name }) => rounded.has(name))",
        'masters.filter(({ name }) => !name.includes("lora_"))',
      ],
    ],
  },
];
