import type { Edits } from "./mutants.ts";

const ATTENTION = ["tests/kernels/attention_test.ts"];
const MATRICES = ["tests/kernels/attention_matrix_test.ts"];
const BARRIERS = ["tests/kernels/barriers_test.ts"];
const TUNING = ["tests/gpu/tuning_test.ts"];

/** What is kept between the kernels of attention's backward pass, and attention by subgroup matrices. */
export const ATTENTION_EDITS: readonly Edits[] = [
  {
    file: "kernels/attention_workgroup_backward.ts",
    tests: ATTENTION,
    filter: "kept probabilities",
    edits: [["rows past the last one are kept", "`(${seen} && q_first + ${i}u <= last)`", "seen"]],
  },
  {
    file: "kernels/attention_workgroup_kept.ts",
    tests: ATTENTION,
    filter: "kept",
    edits: [
      [
        "tiles are read of which nothing was kept",
        "group.x - seen.x >= seen.y - seen.x && group.x - seen.z >= seen.w - seen.z",
        "false",
      ],
      ["every run is the first", "let run = group.z;", "let run = 0u;"],
      ["runs that are over run again", "if (group.z + 1u < groups.z) { return; }", ""],
      ["a run is no part of the heads", "n > 0 && keyValueHeads % n === 0", "n > 0"],
      [
        "members of a group are kept in one place",
        "kept_at(group.y * GROUP + member,",
        "kept_at(group.y * GROUP,",
      ],
      ["there is room for half of what is kept", "32 * HALF * heads", "16 * HALF * heads"],
    ],
  },
  {
    file: "lib/gpu/attention_operations.ts",
    tests: ATTENTION,
    filter: "cache of keys",
    edits: [["over a cache of keys too it is kept", "tile.keeps && apart", "false"]],
  },
  {
    file: "lib/gpu/tuner.ts",
    tests: TUNING,
    filter: "whose products are wrong",
    edits: [[
      "a wrong gradient of attention is taken",
      "record.keeps = isRight && kept",
      "record.keeps = kept",
    ]],
  },
  {
    file: "lib/gpu/tuning.ts",
    tests: TUNING,
    filter: "keeps what its kernels share",
    edits: [[
      "what was measured of attention is not taken",
      "deviceClass(device), keeps)",
      "deviceClass(device))",
    ]],
  },
  {
    file: "lib/gpu/work.ts",
    tests: ["tests/gpu/profiler_test.ts"],
    filter: "five products",
    edits: [["every run is of all heads", " * size.attentionWidth * part", " * size.attentionWidth"]],
  },
  {
    file: "kernels/attention_matrix.ts",
    tests: MATRICES,
    filter: "has the workgroup memory that it says",
    edits: [
      ["own rows that are read anew take memory", "(cut.isResident ? own : 1) + 1", "own + 1"],
      ["all of a device's memory is taken", "Math.min(workgroupBytes, MOST_BYTES)", "workgroupBytes"],
      ["columns that are no vec4s are taken", "headDim % 4 > 0 || ", ""],
    ],
  },
  {
    file: "kernels/attention_matrix_products.ts",
    tests: BARRIERS,
    edits: [
      [
        "the next chunk is written while others read this one",
        "${products}\n    workgroupBarrier();\n    }`",
        "${products}\n    }`",
      ],
      [
        "scales are read while others write them",
        'isFirst || chunks > 1 ? "    workgroupBarrier();" : ""',
        '""',
      ],
    ],
  },
  {
    file: "kernels/attention_matrix_products.ts",
    tests: MATRICES,
    filter: "equals the float64 softmax",
    isOnDawn: true,
    edits: [
      ["columns past a row's end are the last ones", "select(loaded, vec4f(), d >= COLUMNS)", "loaded"],
      ["a tile's scale is that of its smallest row", "${name} = min(${name},", "${name} = max(${name},"],
      [
        "low parts are not multiplied",
        '[["low", "high"], ["high", "low"], ["high", "high"]]',
        '[["high", "high"]]',
      ],
    ],
  },
  {
    file: "kernels/attention_matrix_forward.ts",
    tests: MATRICES,
    filter: "equals the float64 softmax",
    isOnDawn: true,
    edits: [
      ["what was summed before is not scaled", "o${u}_${t} * factor + ${value}", "o${u}_${t} + ${value}"],
    ],
  },
  {
    file: "kernels/attention_matrix.ts",
    tests: MATRICES,
    filter: "equals the float64 softmax",
    isOnDawn: true,
    edits: [[
      "values have the scales of keys",
      'values: "VALUE_OFFSET / COLUMNS + kv_head"',
      'values: "KEY_OFFSET / COLUMNS + kv_head"',
    ]],
  },
  {
    file: "kernels/attention_matrix_products.ts",
    tests: MATRICES,
    filter: "equal those in float64",
    isOnDawn: true,
    edits: [
      ["both operands of a workgroup lie in one place", 'isResident ? own : "own"', '"own"'],
      ["the last chunk counts as all of them", "u === 0 && depth === units * SIDE", "u === 0"],
    ],
  },
  {
    file: "kernels/attention_matrix_backward.ts",
    tests: MATRICES,
    filter: "equal those in float64",
    isOnDawn: true,
    edits: [
      ["a cap has no slope", "` * (1.0 - bend${t} * bend${t})`", '""'],
      ["gradients lack the scales of others' rows", "(${least} / ${ofColumns(scales, t)})", "1.0"],
      ["queries past the last one count again", " && q_first + ${column} <= last)", ")"],
      ["heads that share keys overwrite each other", "shape.heads > shape.keyValueHeads", "false"],
    ],
  },
  {
    file: "kernels/attention_head_sums.wgsl",
    tests: MATRICES,
    filter: "equal those in float64",
    isOnDawn: true,
    edits: [["a group's last head is left out", "member < GROUP;", "member + 1u < GROUP;"]],
  },
  {
    file: "lib/gpu/attention_matrix_family.ts",
    tests: MATRICES,
    filter: "equal those in float64",
    isOnDawn: true,
    edits: [[
      "the upstream gradient's scales lie where those of queries do",
      "this.#scalesOf(rows, t.dOut, rowLength(qkv) / this.shape.headDim)",
      "this.#scalesOf(rows, t.dOut, 0)",
    ]],
  },
  {
    file: "kernels/attention_scales.wgsl",
    tests: MATRICES,
    filter: "equal those in float64",
    isOnDawn: true,
    edits: [["a negative number has no scale", " & vec4u(0x7fffffffu)", ""]],
  },
];
