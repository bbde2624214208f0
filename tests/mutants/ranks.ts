import type { Edits } from "./mutants.ts";

const RUNS = ["tests/distributed/data_parallel_test.ts"];

/** What the ranks of a run make of each other's parts. */
export const RANKS: readonly Edits[] = [
  {
    file: "lib/distributed/parameters.ts",
    tests: RUNS,
    filter: "of 4 ranks",
    edits: [[
      "gradients of a step before count again on a rank with nothing to do",
      "isThere ? Float32Array.from(piece) : new Float32Array(piece.length)",
      "Float32Array.from(piece)",
    ]],
  },
  {
    file: "lib/distributed/collectives.ts",
    tests: ["tests/distributed/collectives_test.ts"],
    edits: [
      ["a sum of ranks is rounded with each", "sum += received[at]", "sum = Math.fround(sum + received[at])"],
      ["the other ranks do not wait for the first", "  await gather(communicator, null);\n", ""],
    ],
  },
  {
    file: "lib/training/step.ts",
    tests: RUNS,
    filter: "signal",
    edits: [[
      "every rank drops out what the first one does",
      "uniform(this.seed, step, firstBatch + index)",
      "uniform(this.seed, step, index)",
    ]],
  },
  {
    file: "lib/run/ranks.ts",
    tests: ["tests/distributed/ranks_test.ts"],
    edits: [["two ranks share a GPU unasked", "shared && !shareGpu", "shared && shareGpu"]],
  },
];
