import type { Edits } from "./mutants.ts";

const RUNS = ["tests/distributed/data_parallel_test.ts"];

/** What the ranks of a run make of each other's parts. */
export const RANKS: readonly Edits[] = [
  {
    file: "lib/distributed/gradients.ts",
    tests: RUNS,
    filter: "of 4 ranks",
    edits: [[
      "a rank with nothing to do has gradients",
      "new Float32Array(elements)",
      "new Float32Array(elements).fill(1e-3)",
    ]],
  },
  {
    file: "lib/distributed/gradients.ts",
    tests: RUNS,
    filter: "of adamw_torch",
    edits: [["the last of a rank's passes alone counts", "sums[i] += values[i]", "sums[i] += 0"]],
  },
  {
    file: "lib/distributed/gradients.ts",
    tests: ["tests/distributed/gradients_test.ts"],
    edits: [[
      "the next piece is computed when the last is summed",
      `        begin(i + 1);
        // Asked for at once: Deno looks for what is done some 10 ms apart, and \`take\` may be as long.
`,
      `        await take(own, i);
        begin(i + 1);
`,
    ]],
  },
  {
    file: "lib/training/optimizer.ts",
    tests: RUNS,
    filter: "zero_stage=2",
    edits: [["norms of other ranks' parts are what lies there", "of.sums ? ", "of ? "]],
  },
  {
    file: "lib/distributed/collectives.ts",
    tests: ["tests/distributed/collectives_test.ts"],
    edits: [
      [
        "a sum of ranks is rounded with each",
        "block[i] += parts[first + i]",
        "block[i] = Math.fround(block[i] + parts[first + i])",
      ],
      ["the other ranks do not wait for the first", "  await gather(communicator, null);\n", ""],
    ],
  },
  {
    file: "lib/training/step.ts",
    tests: RUNS,
    filter: "signal",
    edits: [[
      "every rank drops out what the first one does",
      "uniform(this.#seed, step, firstBatch + index)",
      "uniform(this.#seed, step, index)",
    ]],
  },
  {
    file: "lib/distributed/pipeline.ts",
    tests: ["tests/distributed/pipeline_test.ts"],
    filter: "takes turns",
    edits: [["a stage has one micro-batch more under way", "size - 1 - rank", "size - rank"]],
  },
  {
    file: "lib/training/kept_activations.ts",
    tests: ["tests/distributed/pipeline_test.ts"],
    filter: "one process: log",
    edits: [[
      "the last set is put back, whichever it is",
      "this.#setOf.get(batch)!",
      "[...this.#setOf.values()].at(-1)!",
    ]],
  },
  {
    file: "lib/graph/keeping.ts",
    tests: ["tests/graph/stage_test.ts"],
    edits: [[
      "the last layer of a stage is not rounded, as it is in the whole model",
      "if (!net.sent) ",
      "",
    ]],
  },
  {
    file: "lib/distributed/parameters.ts",
    tests: ["tests/distributed/pipeline_test.ts"],
    filter: "tied table",
    edits: [[
      "a tied table has the gradient of the head alone",
      "head.map((value, i) => value + embedding[i])",
      "head",
    ]],
  },
  {
    file: "lib/run/ranks.ts",
    tests: ["tests/distributed/ranks_test.ts"],
    edits: [
      ["two ranks share a GPU unasked", "shared && !shareGpu", "shared && shareGpu"],
      [
        "keys of ranks may differ",
        "    return found;\n  });\n}\n\n/**\n * Refuses ranks that would not",
        "    return [];\n  });\n}\n\n/**\n * Refuses ranks that would not",
      ],
    ],
  },
  {
    file: "lib/distributed/mpi_abi.ts",
    tests: ["tests/distributed/ranks_test.ts"],
    filter: "launchers",
    edits: [
      ["a batch script of Slurm's is many ranks", '"SLURM_STEP_NUM_TASKS"', '"SLURM_NTASKS"'],
      ["tasks of srun train side by side", "  { rank: SLURM_RANK, size: SLURM_TASKS },\n", ""],
      ["ranks of MPICH load Open MPI", ': variable === "PMI_RANK"', ': variable === "PMIX_RANK"'],
    ],
  },
  {
    file: "lib/run/guard.ts",
    tests: ["tests/distributed/pipeline_test.ts"],
    filter: "first bad tensor",
    edits: [
      [
        "a stage hands bad numbers on, and others find them",
        "if (sent && ends) line.end",
        "if (sent && !batch) line.end",
      ],
      ["what goes to another stage is not looked at", "|| boundaries.has(slab)", ""],
      ["a stage goes on though another has found a bad tensor", "  if (inForward) return inForward;\n", ""],
    ],
  },
  {
    file: "lib/checkpoint/fingerprint.ts",
    tests: ["tests/distributed/ranks_test.ts"],
    filter: "another division",
    edits: [[
      "whatever differs is the number of stages",
      " && differsInStagesAlone(state.division, division)",
      "",
    ]],
  },
  {
    file: "lib/gpu/device.ts",
    tests: ["tests/cli/permissions_test.ts"],
    filter: "Dawn",
    edits: [[
      "native code is loaded, whoever may",
      '.state === "granted") return;\n  throw',
      ") return;\n  throw",
    ]],
  },
  {
    file: "lib/distributed/traffic.ts",
    tests: ["tests/distributed/traffic_test.ts"],
    filter: "to the byte",
    edits: [
      ["a plan's sums come to a rank from itself too", "2 * (size - 1)", "2 * size"],
      ["a rank is sent the weights that it updates", "owner !== rank", "owner >= 0"],
    ],
  },
  {
    file: "lib/planning/ranks.ts",
    tests: ["tests/distributed/traffic_test.ts"],
    filter: "step is",
    edits: [["what no pass hides is hidden", "Math.min(beforeLast, backward)", "beforeLast"]],
  },
];
