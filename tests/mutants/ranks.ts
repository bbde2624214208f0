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
      "new Float32Array(this.#most)",
      "new Float32Array(this.#most).fill(1e-3)",
    ]],
  },
  {
    file: "lib/distributed/gradients.ts",
    tests: RUNS,
    filter: "of adamw_torch",
    edits: [["the last of a rank's passes alone counts", "sums[i] += values[i]", "sums[i] = values[i]"]],
  },
  {
    file: "lib/distributed/gradients.ts",
    tests: ["tests/distributed/gradients_test.ts"],
    edits: [
      [
        "a piece is computed when the last is summed",
        "Math.min(MOST_STAGED, Math.ceil(pieces / 2))",
        "1",
      ],
      ["all is computed before the first is summed", "Math.ceil(pieces / 2)", "pieces"],
    ],
  },
  {
    file: "lib/distributed/staging.ts",
    tests: ["tests/distributed/gradients_test.ts"],
    edits: [["pieces are on their way in the same memory", "index % this.count", "0"]],
  },
  {
    file: "lib/distributed/add_up.ts",
    tests: ["tests/distributed/rank_sums_test.ts"],
    filter: "same bits",
    edits: [
      [
        "a sum of ranks is rounded with each",
        "sums[i] = sums[i] + a[i] + b[i];",
        "sums[i] = Math.fround(sums[i] + a[i]) + b[i];",
      ],
      ["of three ranks the last counts for nothing", "count % 2 === 1", "count === 1"],
      ["a sum begins with what is there", "subarray(0, to - from).fill(0)", "subarray(0, to - from)"],
    ],
  },
  {
    file: "lib/distributed/adder.ts",
    tests: ["tests/distributed/rank_sums_test.ts"],
    edits: [
      [
        "a thread stops before its last sums",
        "places[i + 1] ?? sums.length",
        "places[i + 1] ?? sums.length - 1",
      ],
      ["threads take the cores of the event loop and MPI", "- OWN_CORES", ""],
    ],
  },
  {
    file: "lib/distributed/rank_sums.ts",
    tests: ["tests/distributed/rank_sums_test.ts"],
    filter: "one after the other",
    edits: [
      ["a piece is received where the one before is added up", "this.#pieces++ % 2", "0 * this.#pieces++"],
      ["the last piece is not told", "if (!this.#adding) return;", "return;"],
    ],
  },
  {
    file: "lib/distributed/parameters.ts",
    tests: RUNS,
    filter: "of adamw_torch",
    edits: [[
      "of others' weights the first piece alone is taken",
      "firstElement: i * most }",
      "firstElement: 0 * i * most }",
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
      ["a smaller batch leaves pairs out", "perDeviceTrainBatchSize % times === 0 && ", ""],
      ["stages of one pipeline share moments", "size > stages) return;", "size > 1) return;"],
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
    file: "lib/planning/exchange_time.ts",
    tests: ["tests/distributed/traffic_test.ts"],
    filter: "GPU",
    edits: [
      ["line, copies and sums take turns", "Math.max(own, copy, add)", "own + copy + add"],
      ["the GPU never waits for what is on its way", "Math.max(gpu, free)", "gpu + 0 * free"],
      ["embeddings take their part of the pass", "i === rows.length - 1 && rows.length > 1 ? 0 : ", ""],
    ],
  },
];
