import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "npm:yaml@^2.9.1";
import { parseConfig } from "../../lib/config/parse.ts";
import { configYaml } from "../../lib/config/write.ts";
import { reportHtml, writeReportHtml } from "../../lib/report/html.ts";
import { modelCard, writeModelCard } from "../../lib/report/model_card.ts";
import { finalFigures, formatFigure, type RunReport } from "../../lib/report/run_report.ts";
import { lineChart, thinned, ticks } from "../../lib/report/svg.ts";
import {
  allResults,
  newTrainerState,
  trainMetrics,
  writeAllResults,
  writeTrainerState,
} from "../../lib/checkpoint/trainer_state.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const HOSTILE = `<script>alert("1")</script> & 'x' \`\`\` | end`;

function runReport(lines = ""): RunReport {
  const text =
    `model_name_or_path: models/a\ndataset_mixer: {data/a.jsonl: 0.5}\noutput_dir: out/run\n${lines}`;
  const { config } = parseConfig(text, "run.yaml");
  const state = newTrainerState(config, 3, 2);
  state.global_step = 3;
  state.log_history.push(
    { step: 0, epoch: 0, eval_loss: 0.5, "eval_rewards/accuracies": 0.25, eval_runtime: 1 },
    { step: 1, epoch: 0.5, loss: 0.4, "rewards/chosen": -1, "rewards/rejected": -2, grad_norm: 1.5 },
    { step: 2, epoch: 1, loss: NaN, "rewards/chosen": -0.5, "rewards/rejected": -2.5, grad_norm: 1.5 },
    { step: 3, epoch: 1.5, loss: 0.1, "rewards/chosen": -0.25, "rewards/rejected": -3, grad_norm: 1.5 },
    { step: 3, epoch: 1.5, eval_loss: 0.2, "eval_rewards/accuracies": 0.75, eval_runtime: 2 },
  );
  const metrics = trainMetrics({
    runtime: 7,
    samples: 6,
    steps: 3,
    meanLoss: 0.25,
    epoch: 1.5,
    totalFlos: 1e9,
  });
  return {
    config,
    state,
    results: allResults(state, metrics),
    answers: [{ prompt: HOSTILE, before: "no", after: "yes" }],
    memoryBytes: 4096,
    modelFiles: [{ path: "models/a/model.safetensors", sha256: "ab".repeat(32) }],
    dataFiles: [{ path: "data/a.jsonl", sha256: "cd".repeat(32) }],
    device: "llvmpipe (LLVM 15)",
    version: "0.1.0",
  };
}

Deno.test("the summary has the keys, rounding and last evaluation of transformers' all_results.json", () => {
  const { results } = runReport();
  assert.deepEqual(results, {
    train_runtime: 7,
    train_samples_per_second: 0.857,
    train_steps_per_second: 0.429,
    total_flos: 1e9,
    train_loss: 0.25,
    epoch: 1.5,
    eval_loss: 0.2,
    "eval_rewards/accuracies": 0.75,
    eval_runtime: 2,
  });
});

// The keys of dataclasses.fields(transformers.TrainerState), transformers 5.
const TRAINER_STATE_KEYS =
  "best_global_step best_metric best_model_checkpoint epoch eval_steps global_step is_hyper_param_search " +
  "is_local_process_zero is_world_process_zero log_history logging_steps max_steps num_input_tokens_seen " +
  "num_train_epochs save_steps stateful_callbacks total_flos train_batch_size trial_name trial_params";

Deno.test("trainer_state.json has transformers' keys in order, null for what is no number, and leaves no other file", async () => {
  await withTemporaryFolder(async (folder) => {
    const out = join(folder, "deep", "out");
    await writeTrainerState(out, runReport().state);
    const text = await readFile(join(out, "trainer_state.json"), "utf8");
    const state = JSON.parse(text);
    assert.equal(Object.keys(state).join(" "), TRAINER_STATE_KEYS);
    assert.equal(state.log_history[2].loss, null);
    assert.equal(state.log_history[1]["rewards/chosen"], -1);
    assert.deepEqual([state.max_steps, state.num_train_epochs, state.global_step], [3, 2, 3]);
    assert.ok(text.endsWith("}\n"));
    await writeAllResults(out, { b: 1, a: Infinity });
    assert.equal(await readFile(join(out, "all_results.json"), "utf8"), '{\n    "a": null,\n    "b": 1\n}\n');
    assert.deepEqual((await readdir(out)).sort(), ["all_results.json", "trainer_state.json"]);
  });
});

Deno.test("a report that cannot be written is one clear message", async () => {
  await withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "file"), "");
    await assert.rejects(writeReportHtml(join(folder, "file"), runReport()), {
      name: "UserError",
      status: 1,
      message: /file\/report.html: cannot be written: /,
    });
  });
});

Deno.test("a configuration written as a run file reads as the same configuration", () => {
  const { config } = parseConfig(
    `model_name_or_path: "a: b"
dataset_mixer: {"2": 1, "1": 0.5, "x y#": 0}
chat_template: "{% for m in messages %}{{ m }}\\n{% endfor %}"
prompts: ["no", "yes: #", "1"]
do_eval: true
eval_steps: 3
device_memory: 80GiB
`,
    "run.yaml",
  );
  assert.deepEqual(parseConfig(configYaml(config), "again.yaml"), { config, ignored: [] });
});

Deno.test("figures are short and lose nothing that matters", () => {
  const shown = [0, -0, 42, 1234567, -0.123456789, 3e-7, 6.25e-5, 123456.7, 1.5e12, NaN].map(formatFigure);
  assert.deepEqual(shown, [
    "0",
    "0",
    "42",
    "1,234,567",
    "-0.12346",
    "3e-7",
    "6.25e-5",
    "123,457",
    "1,500,000,000,000",
    "not a number",
  ]);
});

Deno.test("the evaluation before the first step stands beside the last one", () => {
  const figures = finalFigures(runReport().state.log_history, runReport().results);
  assert.deepEqual(figures.find(({ name }) => name === "eval_rewards/accuracies"), {
    name: "eval_rewards/accuracies",
    before: "0.25",
    after: "0.75",
  });
  assert.equal(figures.find(({ name }) => name === "epoch")?.before, "");
});

Deno.test("ticks are round numbers around the range", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.5, 1]);
  assert.deepEqual(ticks(-0.31, -0.02), [-0.4, -0.3, -0.2, -0.1, 0]);
  assert.deepEqual(ticks(0, 3e-7), [0, 1e-7, 2e-7, 3e-7]);
  assert.deepEqual(ticks(5, 5), [5, 6]);
});

Deno.test("ticks close to each other have labels that tell them apart", () => {
  const svg = lineChart("t", "u", [{ name: "a", style: "first", points: [[0, 0.99978], [1, 0.999794]] }]);
  const labels = [...svg.matchAll(/text-anchor="end">([^<]+)/g)].map(([, text]) => text);
  assert.deepEqual(labels, ["0.999", "0.9995", "1", "1.0005"]);
});

Deno.test("a chart places its points in proportion and breaks its curve at what is no number", () => {
  const svg = lineChart("t", "a unit", [{
    name: "a<b",
    style: "first",
    points: [[0, 0], [5, 1], [7, NaN], [10, 0.5]],
  }]);
  const circles = [...svg.matchAll(/cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
  assert.deepEqual(circles, [[78, 212], [262, 12], [446, 112]]);
  assert.deepEqual([...svg.matchAll(/points="([^"]+)"/g)].map(([, points]) => points), ["78,212 262,12"]);
  assert.match(svg, /<title>a&lt;b: 1 at step 5<\/title>/);
  const labels = [...svg.matchAll(/<text [^>]*>([^<]+)/g)].map(([, text]) => text);
  assert.deepEqual(labels, ["0", "0.5", "1", "0", "5", "10", "step", "a unit"]);
  assert.doesNotMatch(svg, /NaN|Infinity/);
});

Deno.test("report.html escapes what it shows, draws what was logged and loads nothing", () => {
  const html = reportHtml(runReport(`run_name: "<b>&"\n`));
  assert.doesNotMatch(html, /<script|<b>|NaN|Infinity|undefined/);
  assert.doesNotMatch(html, /https?:|src=|href=|url\(|@import/);
  assert.match(html, /<title>&lt;b&gt;&amp;<\/title>/);
  assert.match(html, /&lt;script&gt;alert\(&quot;1&quot;\)&lt;\/script&gt; &amp; &#39;x&#39;/);
  const titles = [...html.matchAll(/<figcaption>([^<]+)/g)].map(([, title]) => title);
  assert.deepEqual(titles, [
    "Loss",
    "Rewards (mean log-probabilities)",
    "Accuracy (chosen above rejected)",
    "Gradient norm before clipping",
  ]);
  assert.match(html, /<code>eval_loss<\/code><\/td><td class="number">0.5<\/td><td class="number">0.2<\/td>/);
  assert.match(html, new RegExp("ab".repeat(32)));
  assert.match(html, /<code>dataset_mixer<\/code><\/td><td class="text">data\/a.jsonl: 0.5<\/td>/);
});

Deno.test("each curve of report.html has the points of its own figure in the log", () => {
  const report = runReport();
  // Every figure is told apart by its values.
  const figures = [
    ...["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"].flatMap((
      name,
    ) => [
      name,
      `eval_${name}`,
    ]),
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
  ];
  const valueOf = (figure: string, step: number) => 10 * (1 + figures.indexOf(figure)) + step;
  report.state.log_history = [1, 2].map((step) => ({
    step,
    epoch: step,
    ...Object.fromEntries(figures.map((figure) => [figure, valueOf(figure, step)])),
  }));
  const charts = reportHtml(report).split("<figure>").slice(1).map((chart) => ({
    title: /<figcaption>([^<]+)/.exec(chart)![1],
    points: [...chart.matchAll(/<title>([^:]+): (\d+) at step (\d)<\/title>/g)].map(([, ...point]) => point),
  }));
  const curve = (name: string, figure: string) =>
    [1, 2].map((step) => [name, String(valueOf(figure, step)), String(step)]);
  const expected: Record<string, [name: string, figure: string][]> = {
    "Loss": [["training", "loss"], ["evaluation", "eval_loss"]],
    "Rewards (mean log-probabilities)": [
      ["chosen", "rewards/chosen"],
      ["rejected", "rewards/rejected"],
      ["chosen, evaluation", "eval_rewards/chosen"],
      ["rejected, evaluation", "eval_rewards/rejected"],
    ],
    "Accuracy (chosen above rejected)": [
      ["training", "rewards/accuracies"],
      ["evaluation", "eval_rewards/accuracies"],
    ],
    "Margin (chosen less rejected)": [["training", "rewards/margins"], [
      "evaluation",
      "eval_rewards/margins",
    ]],
    "Gradient norm before clipping": [["gradient norm", "grad_norm"]],
    "Learning rate": [["learning rate", "learning_rate"]],
    "Tokens per second": [["tokens per second", "tokens_per_second"]],
  };
  assert.deepEqual(
    charts,
    Object.entries(expected).map(([title, curves]) => ({
      title,
      points: curves.flatMap(([name, figure]) => curve(name, figure)),
    })),
  );
});

Deno.test("the text of charts is neither large nor small, however wide the page is", () => {
  const html = reportHtml(runReport());
  const number = (pattern: RegExp) => Number(pattern.exec(html)![1]);
  const [column, most] = [number(/minmax\(min\((\d+)rem/), number(/figure \{[^}]*max-width: (\d+)rem/)]
    .map((rem) => 16 * rem);
  const width = number(/<svg viewBox="0 0 (\d+) \d+" role/);
  const narrow = 16 * number(/@media \(max-width: (\d+)rem\) \{ \.tick/);
  const [wideText, narrowText] = [...html.matchAll(/\.tick \{[^}]*font-size: (\d+)px/g)].map(([, px]) => +px);
  // Pixels of text in charts of each width that a column may have.
  const margins = 32;
  const shown = [
    [wideText, Math.min(column, narrow - margins)],
    [wideText, most],
    [narrowText, 400 - margins],
    [narrowText, narrow - margins],
  ].map(([text, chart]) => text * chart / width);
  for (const pixels of shown) assert.ok(pixels >= 10 && pixels <= 15, shown.join());
});

Deno.test("report.html without answers, evaluation or a log has no empty sections", () => {
  const report = { ...runReport(), answers: [], modelFiles: [], dataFiles: [] };
  report.state.log_history = [];
  const headings = [...reportHtml(report).matchAll(/<h2>([^<]+)/g)].map(([, title]) => title);
  assert.deepEqual(headings, ["Figures", "Configuration"]);
});

Deno.test("answers and curves come before the figures", () => {
  const headings = [...reportHtml(runReport()).matchAll(/<h2>([^<]+)/g)].map(([, title]) => title);
  assert.deepEqual(headings, ["Answers before and after", "Curves", "Figures", "Configuration", "Files"]);
});

Deno.test("a long curve is drawn by few points, its extremes and breaks among them", () => {
  const points = Array.from({ length: 10_000 }, (_, x) => [x, Math.sin(x / 100)] as const);
  const marked = new Map([[1234, 7], [5678, -7], [9000, NaN]]);
  const drawn = thinned(points.map(([x, y]) => [x, marked.get(x) ?? y]));
  assert.ok(drawn.length < 1000, `${drawn.length}`);
  for (const [x, y] of [...marked, [0, 0], [9999, Math.sin(99.99)]]) {
    assert.deepEqual(drawn.find((point) => point[0] === x), [x, y]);
  }
  assert.equal(thinned(points.slice(0, 400)).length, 400);
});

Deno.test("the model card's front matter is YAML as the Hub reads it", () => {
  const frontMatter = (card: string) => parse(card.split("---\n")[1]);
  assert.deepEqual(frontMatter(modelCard(runReport('run_name: "a: b"\n'), "owner/base")), {
    base_model: "owner/base",
    library_name: "transformers",
    model_name: "a: b",
    pipeline_tag: "text-generation",
    tags: ["generated_from_trainer", "simper", "preference-alignment"],
  });
  assert.equal("base_model" in frontMatter(modelCard(runReport())), false);
});

Deno.test("the model card tells method, figures, hashes and configuration, and no text ends its blocks", async () => {
  await withTemporaryFolder(async (folder) => {
    await writeModelCard(folder, runReport());
    const card = await readFile(join(folder, "README.md"), "utf8");
    assert.match(card, /^# Model card for run$/m);
    assert.match(card, /trained with \[SimPER\]\(https:\/\/arxiv.org\/abs\/2502.00883\)/);
    assert.match(card, /^\| `eval_rewards\/accuracies` \| 0.25 \| 0.75 \|$/m);
    assert.match(card, new RegExp(`^\\| \`data/a.jsonl\` \\| \`${"cd".repeat(32)}\` \\|$`, "m"));
    assert.match(card, /^dataset_mixer:\n {2}data\/a.jsonl: 0.5$/m);
    assert.match(card, /^@inproceedings\{xiao2025simper,$/m);
    assert.ok(card.includes(`\n\`\`\`\`\n${HOSTILE}\n\`\`\`\`\n`));
    assert.match(card, /\nBefore:\n+```\nno\n```\n+After:\n+```\nyes\n```\n/);
  });
  const sft = modelCard(runReport("loss_type: sft\nfrom_scratch: true\n"));
  assert.match(
    sft,
    /trained from random weights with the shape of `models\/a`. It was trained with supervised/,
  );
  assert.doesNotMatch(sft, /SimPER/);
});

Deno.test("report.html allows its own style and nothing else", () => {
  const html = reportHtml(runReport());
  const [, policy] = /<meta http-equiv="Content-Security-Policy" content="([^"]*)">/.exec(html)!;
  const [, style] = /<style>(.*?)<\/style>/s.exec(html)!;
  const hash = createHash("sha256").update(style).digest("base64");
  assert.equal(policy, `default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-${hash}'`);
  // A style of an element would be refused by it.
  assert.doesNotMatch(html, /\sstyle=/);
  assert.ok(html.indexOf("http-equiv") < html.indexOf("<style>"));
});

Deno.test("each curve of the report is that of its own figure", () => {
  const report = runReport();
  const keys = [
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "grad_norm",
  ];
  const all = [
    ...keys.slice(0, 5).flatMap((key) => [key, `eval_${key}`]),
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
  ];
  // A value of its own for each key at each step.
  report.state.log_history = [1, 2].map((step) => ({
    step,
    epoch: step,
    ...Object.fromEntries(all.map((key, i) => [key, (i + 1) * 10 + step])),
  }));
  const expected: Record<string, string[]> = {
    Loss: ["loss", "eval_loss"],
    "Rewards (mean log-probabilities)": [
      "rewards/chosen",
      "rewards/rejected",
      "eval_rewards/chosen",
      "eval_rewards/rejected",
    ],
    "Accuracy (chosen above rejected)": ["rewards/accuracies", "eval_rewards/accuracies"],
    "Margin (chosen less rejected)": ["rewards/margins", "eval_rewards/margins"],
    "Gradient norm before clipping": ["grad_norm"],
    "Learning rate": ["learning_rate"],
    "Tokens per second": ["tokens_per_second"],
  };
  const figures = [...reportHtml(report).matchAll(/<figure><figcaption>([^<]*).*?<\/figure>/gs)];
  assert.deepEqual(figures.map(([, title]) => title), Object.keys(expected));
  for (const [figure, title] of figures) {
    const shown = [...figure.matchAll(/<title>[^<]*: ([\d.]+) at step (\d)<\/title>/g)].map((
      [, value, step],
    ) => `${value} ${step}`);
    const values = expected[title].flatMap((key) =>
      [1, 2].map((step) => `${(all.indexOf(key) + 1) * 10 + step} ${step}`)
    );
    assert.deepEqual(shown, values, title);
  }
});

Deno.test("no character of an answer or a name turns the text of the model card or the report", () => {
  const report = runReport();
  report.answers = [{ prompt: "a\u001b[31m", before: "b\u202ec\r\nd", after: "\u0000\t" }];
  report.modelFiles = [{ path: "models/\u2066x", sha256: "" }];
  const card = modelCard(report);
  for (const text of [card, reportHtml(report)]) {
    assert.doesNotMatch(text, /[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u);
  }
  for (const text of ["a\\u001b[31m", "b\\u202ec\\u000d\nd", "models/\\u2066x"]) {
    assert.ok(card.includes(text), text);
  }
});
