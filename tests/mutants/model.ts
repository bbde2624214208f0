import type { Edits } from "./mutants.ts";

const BATCH = ["tests/batch/pack_test.ts"];
const PLACEMENT = ["tests/gpu/placement_test.ts"];

const PLAN = ["tests/planning/plan_test.ts"];

const GGUF = ["tests/export/gguf_test.ts"];

/** Batches, memory, model and optimizer. */
export const MODEL: readonly Edits[] = [
  {
    file: "lib/batch/pack.ts",
    tests: BATCH,
    edits: [
      [
        "the last token of a response is run",
        "position < response.ids.length - 1; position++",
        "position < response.ids.length; position++",
      ],
      ["the first token is a label", "Math.max(response.promptLength, 1); p", "response.promptLength; p"],
    ],
  },
  {
    file: "lib/data/pair.ts",
    tests: BATCH,
    edits: [
      [
        "labels of a prompt are shared",
        "const limit = Math.min(chosen.promptLength, rejected.promptLength)",
        "const limit = Math.min(chosen.ids.length, rejected.ids.length)",
      ],
    ],
  },
  {
    file: "lib/batch/mask.ts",
    tests: BATCH,
    edits: [
      ["a window is one token too wide", "position - window + 1)", "position - window)"],
      [
        "a query tile ends with its first token",
        "keyTiles[4 * keyTile + 1] = tile + 1",
        "keyTiles[4 * keyTile + 1] = tile",
      ],
      ["key tiles of the prefix are not ended", "          keyTiles[4 * keyTile + 2] = token + 1;", ""],
    ],
  },
  {
    file: "lib/gpu/placement.ts",
    tests: PLACEMENT,
    edits: [
      ["conflicts are not checked for other calls", "together || a.conflicts.has(b.tensor)", "together"],
      ["conflicts are not heeded", "if (conflicting.has(shelf.slab)) continue;", ""],
      [
        "a tensor that ends where another begins shares with it",
        "other.first > last || first > other.last",
        "other.first >= last || first >= other.last",
      ],
      ["a buffer's tensors are in no order", "other.offset > offset)", "other.offset < 0)"],
      ["buffers grow past what may be bound", "(growth === 0 || offset + bytes <= largest)", "true"],
    ],
  },
  {
    file: "lib/gpu/memory_plan.ts",
    tests: PLACEMENT,
    edits: [["calls are not checked against the plan", "    checkPlacement(livesIn(calls));\n", ""]],
  },
  {
    file: "lib/gpu/memory.ts",
    tests: PLACEMENT,
    edits: [
      ["tensors are not aligned", "Math.ceil(bytes / ALIGNMENT) * ALIGNMENT", "bytes"],
    ],
  },
  {
    file: "lib/planning/precision.ts",
    tests: ["tests/planning/precision_test.ts"],
    filter: "a precision is",
    edits: [
      [
        "auto is float32 everywhere",
        'if (asked === "auto") return matrices && "high";',
        'if (asked === "auto") return;',
      ],
      ["medium is high", "if (matrices) return asked;", 'if (matrices) return "high";'],
    ],
  },
  {
    file: "lib/planning/remembered_tuning.ts",
    tests: ["tests/planning/precision_test.ts"],
    filter: "tiles of matrices",
    edits: [["one tuning is remembered for all precisions", "(precision ? `", "(false ? `"]],
  },
  {
    file: "lib/gpu/tuning.ts",
    tests: ["tests/gpu/tuning_test.ts", "tests/gpu/subgroups_test.ts"],
    filter: "name",
    edits: [
      [
        "a record with subgroups suits every device",
        ": subgroups !== undefined || !isSub",
        ": true || !isSub",
      ],
      [
        "a record of unknown tiles is taken",
        "shapes.every((shape) => isOneOf(names, buffer[shape]))",
        "true",
      ],
    ],
  },
  {
    file: "lib/gpu/tuning.ts",
    tests: ["tests/gpu/matrices_test.ts"],
    edits: [["tiles of float32 matrices suit every device", "? float32Matrices !== undefined", "? true"]],
  },
  {
    file: "lib/gpu/matrices.ts",
    tests: ["tests/gpu/matrices_test.ts"],
    edits: [
      ["matrices that round a little are float32", "product < 2 ? 0 : ", ""],
      ["sums of NaN are exact", "- sum) <= bound)) return false", "- sum) > bound === false)) return false"],
      ["sums of float16 are as good", 'resultComponentType === "f32" &&', ""],
      ["any size of subgroups will do", "if (lanes !== subgroupMaxSize &&", "if (false &&"],
    ],
  },
  {
    file: "lib/gpu/readback.ts",
    tests: ["tests/run/guard_test.ts"],
    filter: "became infinite",
    edits: [["infinities count as finite", "values[i] - values[i] !== 0", "values[i] !== values[i]"]],
  },
  {
    file: "lib/optimizers/adamw.ts",
    tests: ["tests/kernels/optimizer_test.ts"],
    filter: "three updates of three slabs equal AdamW in float64: max_grad_norm 2",
    edits: [
      ["the first moment is not corrected", "learningRate / (1 - beta1 ** step)", "learningRate"],
      ["the second moment is not corrected", "Math.sqrt(1 - beta2 ** step)", "1"],
    ],
  },
  {
    file: "lib/gpu/optimizer_operations.ts",
    tests: ["tests/kernels/optimizer_test.ts"],
    filter: "three updates of three slabs equal AdamW in float64: max_grad_norm 2",
    edits: [["weights decay by the moment", "1 - learningRate * hyper", "1 - hyper"]],
  },
  {
    file: "lib/training/optimizer.ts",
    tests: ["tests/graph/early_update_test.ts"],
    edits: [["vectors decay in early updates", 'spec.kind === "matrix" ? count : 0', "count"]],
  },
  {
    file: "lib/models/keys.ts",
    tests: ["tests/models/model_config_test.ts"],
    edits: [
      ["null of a count is the default", "isNull ? divided :", "isNull ? usual[key] ?? divided :"],
      [
        "layers before max_window_layers have a window",
        "window !== undefined && l >= first",
        "window !== undefined",
      ],
      ["dropout is passed over", "else if (dropout !== 0) {", "else if (dropout === -1) {"],
    ],
  },
  {
    file: "lib/models/multimodal.ts",
    tests: ["tests/models/model_config_test.ts"],
    edits: [[
      "the text part never ties the head",
      'whole.boolean("tie_word_embeddings") || ofText',
      'whole.boolean("tie_word_embeddings")',
    ]],
  },
  {
    file: "lib/weights/weights.ts",
    tests: ["tests/weights/multimodal_test.ts"],
    edits: [
      [
        "other parts of a multimodal model are lost",
        "if (config.partOf === undefined) return [];",
        "return [];",
      ],
      [
        "large tensors of other parts are cut",
        "at < bytes; at += 4 * PIECE",
        "at < Math.min(bytes, 4 * PIECE); at += 4 * PIECE",
      ],
    ],
  },
  {
    file: "lib/weights/contradictions.ts",
    tests: ["tests/weights/weights_test.ts"],
    edits: [["any value is an explanation", "b.wrong.size < a.wrong.size ? b : a", "b"]],
  },
  {
    file: "lib/parameters/parameter.ts",
    tests: ["tests/parameters/row_order_test.ts"],
    edits: [["values lie before keys", "(heads + group) * headDim", "(heads + groups + group) * headDim"]],
  },
  {
    file: "lib/graph/rope_table.ts",
    tests: ["tests/models/rope_test.ts"],
    edits: [
      ["long waves are not slowed", "return f32(frequency / factor)", "return frequency"],
      ["the smooth passage is turned round", "f32(f32(1 - smooth) * frequency)", "f32(smooth * frequency)"],
    ],
  },
  {
    file: "lib/graph/flops.ts",
    tests: ["tests/graph/flops_test.ts"],
    edits: [["backward counts once", "? 2 - matrices.length : 0", "? 1 - matrices.length : 0"]],
  },
  {
    file: "lib/batch/size.ts",
    tests: ["tests/graph/flops_test.ts"],
    edits: [["a token does not look at itself", "token - own + 1", "token - own"]],
  },
  {
    file: "lib/graph/backward.ts",
    tests: ["tests/graph/residual_test.ts"],
    edits: [
      [
        "a gradient is added to where another op still reads it",
        "known && !this.#isRead(known, value)",
        "known",
      ],
      ["a part of a gradient that waits is lost", "...this.#others.get(value) ?? []];", "];"],
      ["a deferred weight gradient is not computed", "for (const { use } of deferred) use(dOutput);", ""],
    ],
  },
  {
    file: "lib/graph/ops/linear.ts",
    tests: ["tests/graph/decoder_test.ts"],
    edits: [["a bias is not added", "y, bias: added, residual", "y, residual"]],
  },
  {
    file: "lib/graph/uploads.ts",
    tests: ["tests/graph/decoder_test.ts"],
    filter: "decoder",
    edits: [[
      "a second batch begins the gradients anew",
      "const accumulate = !firstOfStep;",
      "const accumulate = false;",
    ]],
  },
  {
    file: "lib/planning/plan.ts",
    tests: PLAN,
    filter: "/bounds every pair|does not fit|room for their|piece of logits/",
    edits: [
      [
        "evaluation needs no room",
        "? [{ sizes: test.sizes, batches: consecutive(test.sizes.tokens.length, config.perDeviceEvalBatchSize) }]",
        "? []",
      ],
      [
        "an answer needs no room",
        "Math.max(positions, ids.length + ANSWER_TOKENS)",
        "Math.max(positions, ids.length)",
      ],
      ["early updates leave the gradients' bytes", "(updatesEarly(config) ? 0 : 4)", "4"],
    ],
  },
  {
    file: "lib/planning/advice.ts",
    tests: PLAN,
    filter: "does not fit",
    edits: [[
      "a smaller batch changes the pairs of a step",
      "gradientAccumulationSteps: config.gradientAccumulationSteps * perPass",
      "gradientAccumulationSteps: config.gradientAccumulationSteps",
    ]],
  },
  {
    file: "lib/planning/plan.ts",
    tests: ["tests/graph/early_update_test.ts"],
    filter: "updated early where",
    edits: [[
      "clipped gradients are updated early",
      "maxGradNorm === 0 && gradientAccumulationSteps",
      "true && gradientAccumulationSteps",
    ]],
  },
  {
    file: "lib/parameters/parameters.ts",
    tests: ["tests/graph/decoder_test.ts"],
    filter: "decoder",
    edits: [[
      "a tensor's second half is read where its first lies",
      "        at += count;\n        report(",
      "        report(",
    ]],
  },
  {
    file: "lib/parameters/parameters.ts",
    tests: ["tests/run/guard_test.ts"],
    filter: "last update made infinite",
    edits: [["numbers that are none are saved", "if (bad >= 0) {", "if (false) {"]],
  },
  {
    file: "lib/gpu/program.ts",
    tests: ["tests/kernels/rows_test.ts"],
    filter: "spill",
    edits: [[
      "a grid ends where one direction does",
      "return [x, x && Math.ceil(workgroups / x)]",
      "return [x, x && 1]",
    ]],
  },
  {
    file: "lib/gpu/program.ts",
    tests: ["tests/gpu/profiler_test.ts"],
    filter: "blocks of a large product",
    edits: [
      ["other blocks are never run", "call.rest ? [call, ...call.rest()] : [call]", "[call]"],
      ["other blocks run whatever is asked", "onlyWhere(other, isRun)", "other"],
    ],
  },
  {
    file: "lib/generation/generate.ts",
    tests: ["tests/generation/generate_test.ts"],
    edits: [
      ["positions have no end", "Math.min(maxNewTokens, generator.positions - ids.length)", "maxNewTokens"],
      ["the end of the sequence is part of the answer", "    if (eosTokenIds.includes(id)) break;\n", ""],
    ],
  },
  {
    file: "lib/generation/pass.ts",
    tests: ["tests/generation/generate_test.ts"],
    edits: [
      ["the window is forgotten", "this.plan.net.windows[i]", "undefined"],
      ["a token does not see itself", "first + position + 1", "first + position"],
    ],
  },
  {
    file: "lib/generation/gpu_generator.ts",
    tests: ["tests/generation/generator_test.ts"],
    edits: [
      ["nothing ends an answer", "if (isFull || request.eosTokenIds.includes(id))", "if (isFull)"],
      ["who left keeps the place", "this.#running.filter(({ out }) => out.isLeft)", "[] as Answer[]"],
    ],
  },
  {
    file: "lib/generation/rounds.ts",
    tests: ["tests/generation/generator_test.ts"],
    edits: [
      ["draws are all of the first place", "place: ids.length - request.ids.length + place", "place: 0"],
      ["parts of prompts begin anywhere", "while (ids.length % ATTENTION_TILE > 0)", "while (false)"],
    ],
  },
  {
    file: "lib/export/export_gguf.ts",
    tests: GGUF,
    edits: [
      ["queries keep their rows in GGUF", "(row % 2 * headDim / 2 + (row >> 1)) * columns", "row * columns"],
      ["queries, keys and values stay head by head", "(3 * i + part) * head", "(3 * part + i) * head"],
      ["a norm stays beside 1", "values[i] = value + 1", "values[i] = value"],
      ["a weight becomes infinite in f16", 'stored === "f16" &&', "false &&"],
      ["rows without whole blocks are cut", 'hasBlocks ? type : "f16"', "type"],
    ],
  },
  {
    file: "lib/export/ggml.ts",
    tests: GGUF,
    edits: [["halves go up", "Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5)", "Math.round(scaled)"]],
  },
  {
    file: "lib/export/vocabulary.ts",
    tests: GGUF,
    edits: [
      [
        "the last merge is the best",
        "place === undefined ? LAST : -place",
        "place === undefined ? LAST : place",
      ],
      ["merges may be missing", "splits > (ways.get(text) ?? 0)", "false"],
    ],
  },
];
