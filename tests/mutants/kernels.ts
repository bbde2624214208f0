import type { Edits } from "./mutants.ts";

const LOGPS = ["tests/kernels/log_probabilities_test.ts"];
const LOSS = ["tests/kernels/preference_loss_test.ts"];
const NORM = ["tests/kernels/norm_test.ts"];
const ROWS = ["tests/kernels/rows_test.ts"];
const ELEMENTWISE = ["tests/kernels/elementwise_test.ts"];
const OPTIMIZER = ["tests/kernels/optimizer_test.ts"];
const OPTIMIZER_STORAGE = ["tests/kernels/optimizer_storage_test.ts"];
const CLIPPED = "three updates of three slabs equal AdamW in float64: max_grad_norm 2";
const ATTENTION = ["tests/kernels/attention_test.ts"];
const BARRIERS = ["tests/kernels/barriers_test.ts"];

const BOUNDS = ["tests/bounds/bounds_test.ts"];

/** The kernels' WGSL and what emits it. */
export const KERNELS: readonly Edits[] = [
  {
    file: "kernels/gemm_source.ts",
    tests: BOUNDS,
    filter: "any length",
    edits: [["the last of four numbers is read past the end", "min(i + 3u, last)", "i + 3u"]],
  },
  {
    file: "kernels/gemm_texture.ts",
    tests: BOUNDS,
    filter: "held",
    edits: [[
      "rows that a thread has beyond those there are have no place in the texture",
      "Math.ceil(rows / threadRows) * threadRows",
      "rows",
    ]],
  },
  {
    file: "lib/losses/losses.ts",
    tests: ["tests/losses/proven_test.ts"],
    edits: [
      ["a script's WGSL counts as proven", '!("wgsl" in loss) || followsFrom(config, loss);', "true;"],
      ["no loss counts as proven", '!("wgsl" in loss) || followsFrom(config, loss);', "false;"],
    ],
  },
  {
    file: "lib/gpu/dawn.ts",
    tests: ["tests/gpu/engine_test.ts"],
    filter: "checks bounds",
    edits: [
      [
        "bounds of a script's kernels are not checked",
        "areProven ? [UNSAFE, UNCHECKED]",
        "true ? [UNSAFE, UNCHECKED]",
      ],
      ["bounds of proven kernels are checked", "areProven ? [UNSAFE, UNCHECKED]", "areProven ? [UNSAFE]"],
    ],
  },
  {
    file: "kernels/preference_loss.wgsl",
    tests: LOSS,
    filter: "not finite",
    edits: [
      ["a sum of rejected alone that is not finite goes through", " && is_finite(all.y)", ""],
      ["a sum of chosen that is not finite goes through", " && is_finite(all.x)", ""],
    ],
  },
  {
    file: "kernels/preference_loss.wgsl",
    tests: LOSS,
    filter: "simper: value",
    edits: [
      [
        "the gradient is not divided by the pairs of the step",
        "loss.d_rejected) * rows.scale",
        "loss.d_rejected)",
      ],
      [
        "labels past the first 64 of rejected are left out",
        "l < labels.w; l += 64u) {\n    sum.y",
        "l < min(labels.w, labels.z + 64u); l += 64u) {\n    sum.y",
      ],
      ["the weights of rejected are those of chosen", "weights[l] = gradient.y", "weights[l] = gradient.x"],
    ],
  },
  {
    file: "kernels/loss_simper.wgsl",
    tests: LOSS,
    filter: "simper",
    edits: [
      ["the mean is a sum", "exp_accurate(rejected.sum / rejected.labels)", "exp_accurate(rejected.sum)"],
      ["rejected is raised too", "r / rejected.labels", "-r / rejected.labels"],
    ],
  },
  {
    file: "kernels/preference_loss.wgsl",
    tests: LOSS,
    filter: "REFA",
    edits: [[
      "the last end token is taken, not the first",
      "l > labels.x; l -= 1u) { if (",
      "l > labels.x; l -= 1u) { if (first == labels.y && ",
    ]],
  },
  {
    file: "kernels/loss_functions.wgsl",
    tests: ["tests/losses/reference_test.ts"],
    edits: [
      ["smoothing has no slope", "smoothing * sigmoid(x) - ", "-"],
      ["large exponents overflow", "exp_accurate(min(x, 88.0))", "exp_accurate(min(x, 1.0))"],
    ],
  },
  {
    file: "kernels/batch_sums.wgsl",
    tests: ["tests/losses/trl_test.ts"],
    filter: "TRL's trainer has",
    edits: [["labels past the first are left out", "l < labels.w; l += 64u", "l < labels.z + 1u; l += 64u"]],
  },
  {
    file: "lib/losses/kto.ts",
    tests: ["tests/losses/trl_test.ts"],
    filter: "TRL's trainer has",
    edits: [
      [
        "the reference point may be negative",
        "max(ratios / f32(rows.count), 0.0)",
        "ratios / f32(rows.count)",
      ],
      [
        "weights are the wrong way round",
        "select(UNDESIRABLE_WEIGHT, DESIRABLE_WEIGHT",
        "select(DESIRABLE_WEIGHT, UNDESIRABLE_WEIGHT",
      ],
    ],
  },
  {
    file: "lib/losses/dpo.ts",
    tests: ["tests/losses/trl_test.ts"],
    filter: "TRL's trainer has",
    edits: [
      ["means are not means", "score(rejected) / rejected.labels", "score(rejected)"],
      [
        "rejected follows the score of chosen",
        "-f.y * r.y);\n}\n`);\n\n/** A loss of the difference of the two scores, each",
        "-f.y * c.y);\n}\n`);\n\n/** A loss of the difference of the two scores, each",
      ],
    ],
  },
  {
    file: "lib/losses/losses.ts",
    tests: ["tests/losses/reference_test.ts"],
    filter: "adds up",
    edits: [[
      "the weight of rejected's derivative is left out",
      "all.d_rejected + f32(${literal(weight)}) * l",
      "all.d_rejected + l",
    ]],
  },
  {
    file: "lib/config/loss_rules.ts",
    tests: ["tests/config/loss_rules_test.ts"],
    edits: [
      ["weights may be of any number", "lossWeights.length !== names.length", "false"],
      ["smoothing that is 1 as a float32 is taken", "Math.fround(probability) < 1;", "probability < 1;"],
      [
        "smoothing that is 0 as a float32 is taken",
        "Math.fround(probability) >= 2 ** -126",
        "probability > 0",
      ],
      ["a key that a loss does not read is passed over", "if (isRead) continue;", "continue;"],
      [
        "keys of other losses are written down",
        "!namesOf(lossType).some((name) => DEFINITIONS[name].reads.includes(own))",
        "false",
      ],
    ],
  },
  {
    file: "kernels/log_probabilities.wgsl",
    tests: LOGPS,
    edits: [
      ["columns past the vocabulary count", ">= vec4u(VOCABULARY)", "> vec4u(VOCABULARY)"],
      ["sums are not scaled to the common maximum", "vec4f(own_sum * factor,", "vec4f(own_sum,"],
      ["the last part of a row is left out", "(STRIDE + 255u) / 256u", "max(1u, STRIDE / 256u)"],
      ["the last of equal logits is the most probable", "a > maximum", "a >= maximum"],
      ["the mean of logits counts the padding", "select(v, vec4f(), v == LOWEST)", "v"],
      ["moments keep their old maximum", "(moment + (maximum - larger) * sum) * shrink", "moment * shrink"],
    ],
  },
  {
    file: "kernels/response_figures.wgsl",
    tests: ["tests/kernels/response_figures_test.ts"],
    edits: [
      ["any end token counts", "end = min(end, l);", "end = l;"],
      ["labels past the first 64 are left out", "l += 64u", "l += 640000u"],
    ],
  },
  {
    file: "kernels/logits_backward.wgsl",
    tests: LOGPS,
    edits: [
      ["padding columns have a gradient", "column >= vec4u(VOCABULARY)", "column > vec4u(VOCABULARY)"],
      ["the target's one is missing", "(onehot - p)", "(-p)"],
      ["the slope of scale and cap is left out", " * slope(logits[i])", ""],
    ],
  },
  {
    file: "kernels/norm.wgsl",
    tests: NORM,
    edits: [
      [
        "epsilon is left out of RMSNorm",
        "s.factor = 1.0 / sqrt(sum_of_part(local, squares) / width + EPSILON_F)",
        "s.factor = 1.0 / sqrt(sum_of_part(local, squares) / width)",
      ],
      ["the variance is about 0", "let e = x[start + i] - mean;", "let e = x[start + i];"],
      ["values are not copied", "{ y[start + i] = x[start + i]; }", "{ }"],
    ],
  },
  {
    file: "kernels/norm_parts.wgsl",
    tests: NORM,
    edits: [
      ["heads share a weight", "if (EACH == 1u) { return part_start(part); }", ""],
      ["the mean is left in", "return (e - s.mean) * s.factor;", "return e * s.factor;"],
    ],
  },
  {
    file: "kernels/norm_backward.wgsl",
    tests: NORM,
    edits: [
      ["the mean's part is left out", " - x[start + i] * (s.factor * mean)", ""],
      ["the mean of the gradient is left in", "(g - mean_gradient)", "g"],
    ],
  },
  {
    file: "lib/gpu/norm_operations.ts",
    tests: NORM,
    edits: [
      ["never adds", '${adds ? "+=" : "="}', "="],
      ["a residual is left out", "return residual[i] + e;", "return e;"],
    ],
  },
  {
    file: "kernels/norm_weight_backward.wgsl",
    tests: NORM,
    edits: [
      ["a block's last row is left out", "id.y * 32u + 32u", "id.y * 32u + 31u"],
      ["the bias has no gradient", "bias += d_y[at];", ""],
    ],
  },
  {
    file: "kernels/column_sums.wgsl",
    tests: NORM,
    edits: [["always begins anew", "rows.accumulate != 0u", "false"]],
  },
  {
    file: "kernels/embed_backward.wgsl",
    tests: ROWS,
    edits: [
      ["the padding token is trained", " || distinct_ids[u] == PADDING", ""],
      ["gradients of passes before are lost", "+ column] += sum", "+ column] = sum"],
    ],
  },
  {
    file: "kernels/gather_rows_backward.wgsl",
    tests: ROWS,
    edits: [["the second label of a row has no gradient", "if (labels.y != NONE)", "if (false)"]],
  },
  {
    file: "kernels/clear.wgsl",
    tests: ROWS,
    filter: "cleared",
    edits: [["clears what is to be added to", " && rows.accumulate == 0u", ""]],
  },
  {
    file: "kernels/activation.ts",
    tests: ELEMENTWISE,
    filter: "slope",
    edits: [
      ["silu's own slope is left out", " + silu * (E(1.0) - sigmoid)", ""],
      [
        "a tail of the normal distribution is taken for the other",
        "x >= E()), 0.5 + half",
        "x < E()), 0.5 + half",
      ],
    ],
  },
  {
    file: "kernels/glu_backward.wgsl",
    tests: ELEMENTWISE,
    filter: "a gated linear unit backward",
    edits: [["the gradient of up is the activated value", "= d * gate.value;", "= d * gate.slope;"]],
  },
  {
    file: "kernels/rope.wgsl",
    tests: ELEMENTWISE,
    filter: "rotary",
    edits: [
      ["backward turns forward", "{ s = -s; }", "{ s = s; }"],
      ["what does not turn of a head is taken from the next", "* HEAD + 2u * HALF + i", "* HEAD + i"],
    ],
  },
  {
    file: "kernels/sum_squares.wgsl",
    tests: OPTIMIZER,
    filter: "tail",
    edits: [
      ["what lies behind the last gradient counts", "select(gradients[i], vec4f(), past)", "gradients[i]"],
      [
        "the last vec4 of a block is left out",
        "(block + 1u) * BLOCK, LENGTH)",
        "(block + 1u) * BLOCK, LENGTH - 1u)",
      ],
    ],
  },
  {
    file: "kernels/optimizer.wgsl",
    tests: OPTIMIZER,
    filter: "tail",
    edits: [[
      "what lies behind the last gradient is applied",
      "select(gradients[i] * clip.coefficient, vec4f(), past)",
      "gradients[i] * clip.coefficient",
    ]],
  },
  {
    file: "kernels/optimizer_step.wgsl",
    tests: OPTIMIZER,
    filter: CLIPPED,
    edits: [["one vec4 too many is decayed", "i < DECAY_END", "i <= DECAY_END"]],
  },
  {
    file: "kernels/adamw.wgsl",
    tests: OPTIMIZER,
    filter: CLIPPED,
    edits: [[
      "epsilon stands below the root",
      "sqrt(after.second) / hyper.figures.root_correction2 + hyper.figures.epsilon",
      "sqrt(after.second + hyper.figures.epsilon) / hyper.figures.root_correction2",
    ]],
  },
  {
    file: "kernels/optimizer.wgsl",
    tests: OPTIMIZER,
    filter: "stops the update",
    edits: [["updates go on after a norm that is not finite", "if (clip.broken != 0.0) { return; }", ""]],
  },
  {
    file: "kernels/optimizer_8bit.wgsl",
    tests: OPTIMIZER_STORAGE,
    filter: "equal float64's of the same bytes: adamw, weights in f32",
    edits: [
      ["a block's largest is that of one thread", "local / 8u * 8u + n]", "local]"],
      ["blocks of a chunk share the first's scale", "absmax[place.scale + block];", "absmax[place.scale];"],
    ],
  },
  {
    file: "lib/gpu/optimizer_operations.ts",
    tests: OPTIMIZER_STORAGE,
    filter: "equal float64's of the same bytes: adamw, weights in f32",
    edits: [["the second moment is a share of the first's largest", '"xy"[i]', '"xx"[i]']],
  },
  {
    file: "kernels/lion.wgsl",
    tests: OPTIMIZER_STORAGE,
    filter: "Lion8bit",
    edits: [
      ["weights go where the new moment points", "sign(before.first *", "sign(after.first *"],
      ["the moment forgets as the sign does", "hyper.figures.beta2 +", "hyper.figures.beta1 +"],
    ],
  },
  {
    file: "kernels/dynamic_map.ts",
    tests: OPTIMIZER_STORAGE,
    filter: "AdamW8bit",
    edits: [
      [
        "the border below is not looked at",
        "u + place - 1u]) { return place - 1u; }",
        "u + place - 1u]) { return place; }",
      ],
      ["negative numbers are positive", "select(127u + place,", "max(127u + place,"],
    ],
  },
  {
    file: "kernels/clip.wgsl",
    tests: OPTIMIZER,
    filter: "max_grad_norm 0.0001",
    edits: [["torch's 1e-6 is left out", "(norm + 1.0e-6)", "norm"]],
  },
  {
    file: "kernels/clip.wgsl",
    tests: OPTIMIZER,
    filter: CLIPPED,
    edits: [["gradients are scaled up", "min(1.0, MAX_NORM_F", "max(1.0, MAX_NORM_F"]],
  },
  {
    file: "kernels/parameter_norms.wgsl",
    tests: ["tests/graph/early_update_test.ts"],
    edits: [["an early update does not look at its own norm", "GUARD == 1u && ", "GUARD == 2u && "]],
  },
  {
    file: "kernels/quantized.ts",
    tests: ["tests/kernels/quantized_test.ts"],
    filter: "storage memory",
    edits: [
      ["the first of two codes is in the lower half", "vec4u(4u, 0u, 12u, 8u)", "vec4u(0u, 4u, 8u, 12u)"],
      ["a scale's mean is left out", " + bitcast<f32>(${name}[factor + 1u])", ""],
      [
        "scales begin a word early",
        "+ ${perWord - 1}u) / ${perWord}u; }${scale}",
        "- 1u) / ${perWord}u; }${scale}",
      ],
    ],
  },
  {
    file: "lib/parameters/quantized_matrix.ts",
    tests: ["tests/kernels/quantized_test.ts"],
    edits: [
      ["a part has the scales of the first", "(source + at) / quantized.block", "at / quantized.block"],
      [
        "superblocks run on from part to part",
        "Math.min(powerIn(step * columns / group), SCALE_BLOCK * BLOCK / group)",
        "SCALE_BLOCK * BLOCK / group",
      ],
    ],
  },
  {
    file: "lib/parameters/quantize.ts",
    tests: ["tests/parameters/quantize_test.ts"],
    edits: [
      [
        "a block is divided as its end is",
        "isWhole ? f32(values[i] * inverse) : f32(values[i] / absmax)",
        "f32(values[i] / absmax)",
      ],
      [
        "the nearest value is taken, not the nearest of a table",
        "const STEPS = 65535;",
        "const STEPS = 1048575;",
      ],
      ["a row's factor is one division", "f32(f32(1 / largest) * 127)", "f32(127 / largest)"],
    ],
  },
  {
    file: "kernels/storage.ts",
    tests: ["tests/kernels/storage_test.ts"],
    edits: [
      ["bfloat16 is cut, not rounded", " + 0x7fffu + ((bits >> vec4u(16u)) & vec4u(1u))", ""],
      ["ties go up", "((bits >> vec4u(16u)) & vec4u(1u))", "vec4u(1u)"],
    ],
  },
  {
    file: "kernels/attention.ts",
    tests: ATTENTION,
    filter: "softmax",
    edits: [[
      "a token does not see itself",
      "key - span.z < own + 1u - span.z",
      "key - span.z < own - span.z",
    ]],
  },
  {
    file: "kernels/attention_registers.ts",
    tests: ATTENTION,
    filter: "softmax",
    edits: [[
      "keys in both intervals count twice",
      "prefix_end >= own && end > own) {",
      "prefix_end > own + 32u && end > own) {",
    ]],
  },
  {
    file: "kernels/attention_workgroup_forward.ts",
    tests: ATTENTION,
    filter: "softmax",
    edits: [["what was summed before is not scaled", "o${i}_${c} *= factor.${lane(i)}", "o${i}_${c} *= 1.0"]],
  },
  {
    file: "kernels/attention_workgroup_forward.ts",
    tests: BARRIERS,
    edits: [
      [
        "maxima are read while others write them",
        "      });\n    workgroupBarrier();\n    var new_max",
        "      });\n    var new_max",
      ],
      [
        "weights are read while others write them",
        "factor.${lane(i)};`)}\n    workgroupBarrier();",
        "factor.${lane(i)};`)}",
      ],
      [
        "sums are read while others write them",
        "= row_sum;\n  workgroupBarrier();",
        "= row_sum;",
      ],
    ],
  },
  {
    file: "kernels/attention_workgroup_backward.ts",
    tests: BARRIERS,
    edits: [
      [
        "score gradients of queries are read while others write them",
        '${transpose("score_gradients", "g")}\n    workgroupBarrier();\n    for (var j = 0u; j < 32u; j += 1u) {\n      let ds',
        '${transpose("score_gradients", "g")}\n    for (var j = 0u; j < 32u; j += 1u) {\n      let ds',
      ],
      [
        "score gradients of queries are written while others read them",
        'workgroupBarrier();\n${transpose("score_gradients", "g")}',
        '${transpose("score_gradients", "g")}',
      ],
      [
        "weights of keys are written while others read them",
        'workgroupBarrier();\n${transpose("weights", "s")}',
        '${transpose("weights", "s")}',
      ],
    ],
  },
  {
    file: "kernels/gemm_workgroup.ts",
    tests: BARRIERS,
    edits: [
      ["tiles are written while others read them", '{\n    workgroupBarrier();\n${copy("a"', '{\n${copy("a"'],
      [
        "tiles are read while others write them",
        '${copy("b", b, width.b, depth)}\n    workgroupBarrier();',
        '${copy("b", b, width.b, depth)}',
      ],
    ],
  },
  {
    file: "kernels/preference_loss.wgsl",
    tests: BARRIERS,
    edits: [[
      "gradients are read while one thread writes them",
      "  }\n  workgroupBarrier();\n  for",
      "  }\n  for",
    ]],
  },
  {
    file: "kernels/gemm.ts",
    tests: ["tests/kernels/gemm_test.ts"],
    filter: "by way of textures",
    edits: [["products that should add do not", "size.adds == 1u ||", "false ||"]],
  },
  {
    file: "kernels/gemm.ts",
    tests: ["tests/kernels/gemm_matrix_test.ts"],
    filter: "without scales",
    edits: [["float32 matrices are scaled", ' && tile.precision !== "highest"', ""]],
  },
  {
    file: "kernels/gemm_matrix.ts",
    tests: ["tests/kernels/gemm_matrix_test.ts"],
    filter: "have the workgroup memory",
    edits: [["sums take room for a matrix of each half alone", "2 * stackOf(tile) * tile.m", "2 * tile.m"]],
  },
  {
    file: "kernels/gemm_parts.ts",
    tests: ["tests/kernels/gemm_test.ts"],
    filter: "a product in parts",
    edits: [
      ["the last part of a product is left out", "part < size.parts;", "part + 1u < size.parts;"],
      ["parts overlap", "min(k_begin + deep, all)", "min(k_begin + deep + 1u, all)"],
    ],
  },
  {
    file: "kernels/gemm_storage.ts",
    tests: ["tests/kernels/gemm_test.ts"],
    filter: "C = A B^T equals the float64 product (tiles in storage",
    edits: [[
      "the rest of an inner dimension is left out",
      'variant.tail ? `  for (var k = K & 0xfffffffcu; k < K; k += 1u) {${step("1")}',
      'false ? `  for (var k = K & 0xfffffffcu; k < K; k += 1u) {${step("1")}',
    ]],
  },
  {
    file: "kernels/gemm_epilogue.ts",
    tests: ["tests/kernels/gemm_epilogue_test.ts"],
    edits: [
      ["values are turned like queries and keys", "n >= size.rotated ||", "n > size.rotated ||"],
      ["the activated values are lost", "  v = gate.value * up;`", "  `"],
      ["a bias is that of the column before", "let last = size.n - 1u;", "let last = size.n - 2u;"],
      ["a scale is left out", "var v = value * size.scale;", "var v = value;"],
      ["all of a head is turned", " || n % size.head >= 2u * half", ""],
    ],
  },
];
