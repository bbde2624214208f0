import type { Edits } from "./mutants.ts";

const SAMPLER = ["tests/training/sampler_test.ts"];
const FIGURES = ["tests/training/figures_test.ts"];
const LOOP = ["tests/run/loop_test.ts"];
const REPORT = ["tests/report/report_test.ts"];
const CHECKPOINT = ["tests/checkpoint/checkpoint_test.ts"];
const RESUME = ["tests/run/resume_test.ts"];
const COLLAPSE = ["tests/training/collapse_test.ts"];

const PACK = ["tests/reproduction/pack_test.ts"];

/** What a run does between its steps: sampling, figures, checkpoints, reports. */
export const RUNS: readonly Edits[] = [
  {
    file: "lib/run/reference.ts",
    tests: ["tests/run/reference_test.ts"],
    edits: [
      ["the reference's memory stays", "  } finally {\n    decoder.destroy();\n  }", "  } finally {\n  }"],
      [
        "known sums are computed again",
        "batch.some((pair) => Number.isNaN(sums[2 * pair]))",
        "batch.length > 0",
      ],
      ["what was computed is lost with a stop", "if (split.missing.length > 0) await save();", ""],
    ],
  },
  {
    file: "lib/training/sampler.ts",
    tests: SAMPLER,
    edits: [
      ["every epoch has one order", "permutation(pairs, seed, epoch)", "permutation(pairs, seed)"],
      ["an order of another seed is kept", "`${pairs} ${seed} ${epoch}`", "`${pairs} ${epoch}`"],
      ["an epoch's last step takes pairs twice", "Math.min(first + perStep, pairs)", "first + perStep"],
      [
        "a part of an epoch is rounded down",
        "Math.ceil(stepsPerEpoch(options) * epochs)",
        "Math.floor(stepsPerEpoch(options) * epochs)",
      ],
    ],
  },
  {
    file: "lib/training/sampler.ts",
    tests: RESUME,
    filter: "position after some steps",
    edits: [
      [
        "the position counts steps, not pairs",
        "(steps % perEpoch) * perBatch * batchesPerStep };",
        "steps % perEpoch };",
      ],
      [
        "the position is in the epoch after",
        "epoch: Math.floor(steps / perEpoch), pair",
        "epoch: Math.ceil(steps / perEpoch), pair",
      ],
    ],
  },
  {
    file: "lib/random.ts",
    tests: ["tests/random_test.ts"],
    edits: [[
      "the first number of a list never moves",
      "let i = count - 1; i > 0; i--",
      "let i = count - 1; i > 1; i--",
    ]],
  },
  {
    file: "lib/training/schedule.ts",
    tests: ["tests/training/schedule_test.ts"],
    edits: [
      [
        "the warm-up begins at its first step",
        "peak * step / Math.max(1, warmupSteps)",
        "peak * (step + 1) / Math.max(1, warmupSteps)",
      ],
      [
        "the warm-up counts as progress",
        "(step - warmupSteps) / Math.max(1, totalSteps - warmupSteps)",
        "step / totalSteps",
      ],
      [
        "a share of the steps is rounded down",
        "Math.ceil(totalSteps * stepsOrShare)",
        "Math.floor(totalSteps * stepsOrShare)",
      ],
    ],
  },
  {
    file: "lib/run/loop.ts",
    tests: ["tests/distributed/data_parallel_test.ts"],
    filter: "tells how much of the whole step",
    edits: [[
      "a rank's pairs are told as those of the step",
      "Math.round(pairsOfStep * done / pairs)",
      "done",
    ]],
  },
  {
    file: "lib/run/loop.ts",
    tests: LOOP,
    edits: [
      [
        "a GPU is waited for before it has the next step",
        "(gpu.isSoftware && this.#showsAfter(step))",
        "this.#showsAfter(step)",
      ],
      [
        "warmup_ratio wins over warmup_steps",
        "warmupSteps > 0 ? warmupSteps : warmupRatio",
        "warmupRatio > 0 ? warmupRatio : warmupSteps",
      ],
      [
        "the collapse alarm forgets at a resume",
        "new CollapseAlarm(before?.state.collapse)",
        "new CollapseAlarm()",
      ],
      [
        "progress shows the rewards as accuracy",
        'accuracy: metrics["rewards/accuracies"]',
        'accuracy: metrics["rewards/chosen"]',
      ],
      [
        "progress shows pairs as tokens",
        "tokensPerSecond: tokens / seconds",
        "tokensPerSecond: pairs / seconds",
      ],
      [
        "the norm of a log entry is the clipped one",
        "grad_norm: clip.norm",
        "grad_norm: Math.min(1, clip.norm)",
      ],
      [
        "a log entry has the learning rate of the next step",
        "learning_rate: learningRate(step, this.#schedule)",
        "learning_rate: learningRate(step + 1, this.#schedule)",
      ],
      [
        "the time left is that of all steps",
        "this.#timeLeft.of(totalSteps - result.step - 1)",
        "this.#timeLeft.of(totalSteps)",
      ],
      ["the first step is never logged", "step === 0 && loggingFirstStep", "false && loggingFirstStep"],
    ],
  },
  {
    file: "lib/training/figures.ts",
    tests: FIGURES,
    edits: [
      [
        "the tokens seen are the window's",
        "num_input_tokens_seen: this.#totals.tokens",
        "num_input_tokens_seen: tokens",
      ],
      [
        "the rate of tokens is that of pairs",
        "tokens_per_second: tokens / time",
        "tokens_per_second: pairs / time",
      ],
      [
        "the mean loss is the window's",
        "lossSum / Math.max(1, this.#steps)",
        "meanMetrics(this.#totals.window.steps).loss",
      ],
      [
        "the window is kept after it was logged",
        "    this.#totals.window = { ...EMPTY, steps: [] };\n    this.#windowStart",
        "    this.#windowStart",
      ],
      ["evaluations count as training", "this.#windowStart += milliseconds", "this.#windowStart += 0"],
      [
        "a resumed run's seconds begin anew",
        "this.#totals.seconds + since(this.#start);\n    return",
        "since(this.#start);\n    return",
      ],
      ["an entry of any step counts as evaluated", "entry.step === this.#steps && ", ""],
      [
        "the loss is that of the first pair",
        "totals.lossSum += metrics.loss",
        "totals.lossSum += pairs[0].loss",
      ],
    ],
  },
  {
    file: "lib/training/metrics.ts",
    tests: ["tests/training/metrics_test.ts"],
    edits: [
      ["an equal reward is accurate", "chosen > rejected ? 1 : 0", "chosen >= rejected ? 1 : 0"],
      ["rewards are sums", "r.rejected / r.rejectedLabels", "r.rejected"],
    ],
  },
  {
    file: "lib/training/collapse.ts",
    tests: COLLAPSE,
    filter: "rejected",
    edits: [
      [
        "one that falls alone is a collapse",
        "Math.min(collapse.chosen, collapse.rejected)",
        "Math.max(collapse.chosen, collapse.rejected)",
      ],
      ["sums are not weighed by their pairs", "chosen: chosen * pairs, rejected", "chosen, rejected"],
    ],
  },
  {
    file: "lib/training/collapse.ts",
    tests: COLLAPSE,
    filter: "second collapse",
    edits: [
      ["the alarm is never lowered", "state.isRaised = false", "state.isRaised = state.isRaised"],
      [
        "old steps are never dropped",
        ">= COLLAPSE_PAIRS) state.recent.shift()",
        ">= 9 * COLLAPSE_PAIRS) state.recent.shift()",
      ],
    ],
  },
  {
    file: "lib/training/best.ts",
    tests: ["tests/training/best_test.ts"],
    edits: [
      ["the evaluation before the first step can be the best", " || entry.step === 0", ""],
      ["figures that are no numbers count", "!Number.isFinite(value)", "false"],
      [
        "the last of equals is the best",
        "value > best.value : value < best.value",
        "value >= best.value : value <= best.value",
      ],
      [
        "the least is the best of what should be great",
        "greaterIsBetter ? value >",
        "!greaterIsBetter ? value >",
      ],
    ],
  },
  {
    file: "lib/run/guard.ts",
    tests: ["tests/run/guard_test.ts"],
    filter: "names that pair",
    edits: [
      [
        "a sum of rejected alone names no pair",
        "Number.isFinite(loss + chosen + rejected)",
        "Number.isFinite(loss + chosen)",
      ],
    ],
  },
  {
    file: "lib/training/step_figures.ts",
    tests: ["tests/run/train_test.ts"],
    filter: "a run of untied",
    edits: [[
      "figures of a second batch are those of the first",
      "    at += batch.pairs * PAIR_FLOATS;\n    return",
      "    return",
    ]],
  },
  {
    file: "lib/training/step_figures.ts",
    tests: ["tests/training/step_test.ts"],
    edits: [
      [
        "steps write to the buffer that is being read",
        "    this.#staging = 1 - this.#staging;\n",
        "",
      ],
      [
        "every step of a buffer has the figures of the first",
        "slot * this.#slotBytes / 4",
        "0",
      ],
    ],
  },
  {
    file: "lib/gpu/tuner.ts",
    tests: ["tests/gpu/tuning_test.ts"],
    filter: "way",
    edits: [
      ["measuring has no end", "if (now() >= end) {", "if (false) {"],
      ["a wrong product is taken", "if (!found.isRight) continue;", ""],
      ["a choice is written as it was measured", "record: inOneForm(record)", "record"],
    ],
  },
  {
    file: "lib/planning/remembered_tuning.ts",
    tests: ["tests/gpu/tuning_test.ts"],
    filter: "refused",
    edits: [[
      "another version's tiles are taken",
      '    ["version of simper", here.version, tuning.version],\n',
      "",
    ], ["rates of ways that do not exist are taken", "rates.every(isRate)", "rates.every(() => true)"]],
  },
  {
    file: "lib/training/evaluate.ts",
    tests: ["tests/run/train_test.ts"],
    filter: "evaluation",
    edits: [[
      "the last short batch is left out",
      "at < to; at += perBatch",
      "at + perBatch <= to; at += perBatch",
    ]],
  },
  {
    file: "lib/config/keys.ts",
    tests: RESUME,
    filter: "every key",
    edits: [
      ["a key that matters is free", 'default: "float32",', 'default: "float32", mayChange: true,'],
      ["a key that is free matters", "default: 10, mayChange: true,", "default: 10,"],
    ],
  },
  {
    file: "lib/checkpoint/start.ts",
    tests: RESUME,
    filter: "not taken for finished",
    // Whatever the file is called that tells a finished run.
    edits: [[
      "what tells of a finished run is left",
      ", { force: true });\n  if (isResumed)",
      ' + ".none", { force: true });\n  if (isResumed)',
    ]],
  },
  {
    file: "lib/checkpoint/write.ts",
    tests: RESUME,
    filter: "gets its name",
    edits: [
      [
        "the name comes before the flush",
        "this.#closing = flush.done.then(() =>",
        "this.#closing = Promise.resolve().then(() =>",
      ],
    ],
  },
  {
    file: "lib/checkpoint/write.ts",
    tests: CHECKPOINT,
    filter: "save_total_limit",
    edits: [
      ["the best is not kept", "best ?? undefined]", "undefined]"],
      ["one too many is kept", "if (excess <= 0) return;", "if (excess <= 1) return;"],
    ],
  },
  {
    file: "lib/checkpoint/names.ts",
    tests: RESUME,
    filter: "order of their steps",
    edits: [[
      "checkpoints are in the order of text",
      ".sort((a, b) => a.step - b.step)",
      ".sort((a, b) => a.folder < b.folder ? -1 : 1)",
    ]],
  },
  {
    file: "lib/report/html.ts",
    tests: REPORT,
    filter: "report.html",
    edits: [
      [
        "the curve of rejected is that of chosen",
        '[`${key}/rejected`, "rejected", "second"]',
        '[`${key}/chosen`, "rejected", "second"]',
      ],
      [
        "the curve of an evaluation is that of training",
        '[`eval_${key}`, "evaluation", "second"]',
        '[key, "evaluation", "second"]',
      ],
      [
        "the margins are the accuracies",
        'pair("rewards/margins")',
        'pair("rewards/accuracies")',
      ],
      [
        "the learning rate is the norm",
        '["learning_rate", "learning rate", "first"]',
        '["grad_norm", "learning rate", "first"]',
      ],
      [
        "figures before stand after",
        'cell("number", before)] : []),\n    cell("number", after)',
        'cell("number", after)] : []),\n    cell("number", before)',
      ],
    ],
  },
  {
    file: "lib/report/svg.ts",
    tests: REPORT,
    edits: [
      ["a break in a curve is drawn through", "else runs.push([]);", ""],
      ["quotes are not escaped", '    \'"\': "&quot;",\n', ""],
    ],
  },
  {
    file: "lib/report/live.ts",
    tests: ["tests/report/live_test.ts"],
    edits: [
      ["any host name is served", "if (!HOSTS.includes(hostname))", "if (!HOSTS)"],
      ["any page may stop a run", "(from !== null && from !== origin)", "false"],
      ["half a line is read as a line", "bytes.lastIndexOf(10, bytesRead - 1) + 1", "bytesRead"],
    ],
  },
  {
    file: "lib/report/event_file.ts",
    tests: ["tests/report/run_log_test.ts"],
    edits: [
      ["steps done again stand twice", '{ kind: "start", step: first },', ""],
      ["of the step gone on from the log is lost", "entry.step >= first", "entry.step > first"],
    ],
  },
  {
    file: "lib/checkpoint/trainer_state.ts",
    tests: REPORT,
    edits: [
      ["the first evaluation is the result", "log_history.findLast(", "log_history.find("],
    ],
  },
  {
    file: "lib/report/progress.ts",
    tests: ["tests/report/progress_test.ts"],
    edits: [
      [
        "what matters is left out first",
        "Math.max(...kept.map(([rank]) => rank))",
        "Math.min(...kept.map(([rank]) => rank))",
      ],
      [
        "the width is that of the start",
        "fit([...about, ...parts], this.columns! - 1)",
        "fit([...about, ...parts], 79)",
      ],
      ["work that was done before counts for the rate", "last.done - first.done", "last.done"],
      ["the time left is that of the whole", "(total - done) / rate", "total / rate"],
      [
        "the loss is the accuracy",
        "known(accuracy, (value) => `accuracy",
        "known(loss, (value) => `accuracy",
      ],
      [
        "log_level: warning shows progress",
        '!isShown("info", options.logLevel)',
        '!isShown("warning", options.logLevel)',
      ],
    ],
  },
  {
    file: "lib/report/entry_line.ts",
    tests: ["tests/report/progress_test.ts"],
    edits: [
      ["rewards do not stand for the accuracy of tokens", 'named(["rewards/margins"]).length > 0', "false"],
      ["the rest takes a third line", "lines.length === MOST_LINES", "lines.length > MOST_LINES"],
    ],
  },
  {
    file: "lib/training/time_left.ts",
    tests: ["tests/training/time_left_test.ts"],
    edits: [
      ["the first steps count as much as the last", "const DECAY = 0.95", "const DECAY = 1"],
      ["evaluations take no time", "found.seconds = seconds", "found.seconds = 0"],
      ["pauses that are over are still to come", "if (isExpected) found.left--", ""],
    ],
  },
  {
    file: "lib/report/model_card.ts",
    tests: REPORT,
    filter: "model card",
    edits: [
      ["a text ends its block", 'const fence = "`".repeat(longest + 1);', 'const fence = "```";'],
      ["figures before stand after", "[inline(name), before, after]", "[inline(name), after, before]"],
      ["answers before stand after", '"Before:",\n    fenced(`${before}', '"Before:",\n    fenced(`${after}'],
    ],
  },
  {
    file: "lib/report/log.ts",
    tests: ["tests/report/progress_test.ts", "tests/data/hostile_inputs_test.ts"],
    filter: "/logger|log|control|terminal/",
    edits: [
      [
        "levels below the least are shown",
        "LEVELS.indexOf(level) >= LEVELS.indexOf(least)",
        "LEVELS.indexOf(level) >= 0",
      ],
    ],
  },
  {
    file: "lib/report/profile.ts",
    tests: ["tests/gpu/profiler_test.ts"],
    filter: "/busy|table|trace/",
    edits: [
      ["times of a kernel are not added up", "total.seconds += seconds", "total.seconds = seconds"],
      ["gaps between submissions count as busy", "spans.get(submission) ??", "spans.get(0) ??"],
    ],
  },
  {
    file: "lib/report/run_report.ts",
    tests: REPORT,
    edits: [[
      "any first entry is the one before training",
      'entry.step === 0 && "eval_loss" in entry',
      '"eval_loss" in entry && entry.step > 0',
    ]],
  },
  {
    file: "lib/reproduction/check.ts",
    tests: PACK,
    edits: [
      [
        "tiles are compared by how they are written",
        "Object.entries(inOneForm(record))",
        "Object.entries(record)",
      ],
      ["a missing entry of the log is none", "if (!other) first ??=", "if (false) first ??="],
      [
        "a small difference of the log is none",
        "if (!other || other[figure] === value) continue;",
        "if (!other || Math.abs(other[figure] - value) < 1e-3) continue;",
      ],
      [
        "weights are looked at by their sample",
        "pack[name].sha256 !== here[name].sha256",
        "String(pack[name].sample) !== String(here[name].sample)",
      ],
      [
        "tokens are counted alone",
        "JSON.stringify(pack) === JSON.stringify(here)",
        "text(pack) === text(here)",
      ],
    ],
  },
  {
    file: "lib/reproduction/pack.ts",
    tests: PACK,
    edits: [
      ["a home stays in the pack", "isPath ? value.split", "false ? value.split"],
      [
        "a branch stands for its commit",
        "pinned.model_revision = revisions.model",
        "pinned.model_revision = null",
      ],
      ["a day stands for another", "if (date !== undefined) pinned", "if (false) pinned"],
    ],
  },
];
