import { createHash } from "node:crypto";
import { describeCollapse } from "../training/collapse.ts";
import { configEntries } from "../config/write.ts";
import { writeText } from "../text_file.ts";
import { type Answer, finalFigures, runName, type RunReport } from "./run_report.ts";
import type { HashedFile } from "../data/hash.ts";
import { escapeXml, lineChart, type Series } from "./svg.ts";
import { collapsesOf } from "../checkpoint/trainer_state.ts";
import type { LogEntry } from "../training/log_entry.ts";

/** The charts: what each is called, and the keys of the log that it draws, evaluation beside training. */
const CHARTS: readonly { title: string; keys: readonly [key: string, name: string, style: string][] }[] = [
  { title: "Loss", keys: [["loss", "training", "first"], ["eval_loss", "evaluation", "second"]] },
  {
    title: "Rewards (mean log-probabilities)",
    keys: [
      ["rewards/chosen", "chosen", "first"],
      ["rewards/rejected", "rejected", "second"],
      ["eval_rewards/chosen", "chosen, evaluation", "first dashed"],
      ["eval_rewards/rejected", "rejected, evaluation", "second dashed"],
    ],
  },
  {
    title: "Accuracy (chosen above rejected)",
    keys: [["rewards/accuracies", "training", "first"], ["eval_rewards/accuracies", "evaluation", "second"]],
  },
  {
    title: "Margin (chosen less rejected)",
    keys: [["rewards/margins", "training", "first"], ["eval_rewards/margins", "evaluation", "second"]],
  },
  { title: "Gradient norm before clipping", keys: [["grad_norm", "gradient norm", "first"]] },
  { title: "Learning rate", keys: [["learning_rate", "learning rate", "first"]] },
  { title: "Tokens per second", keys: [["tokens_per_second", "tokens per second", "first"]] },
];

const STYLE = `
:root { color-scheme: light dark; --text: #1c2026; --soft: #5b6470; --rule: #dfe3e8; --page: #fff; --first: #1f5fd0;
  --second: #c4560b; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ee; --soft: #9aa4b1; --rule: #343a44; --page: #15181d; --first: #7fb0ff; --second: #ffa45c; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } p.sub { color: var(--soft); margin-top: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
.key { font-weight: 400; color: var(--soft); margin-left: .8em; white-space: nowrap; }
.key svg { display: inline; width: 1.6em; height: .8em; vertical-align: baseline; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .first { stroke: var(--first); }
.second { stroke: var(--second); } .dashed { stroke-dasharray: 5 4; } .mark { stroke-width: 0; }
.mark.first { fill: var(--first); } .mark.second { fill: var(--second); }
table { border-collapse: collapse; width: 100%; } .scroll { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule); }
td.text { white-space: pre-wrap; min-width: 12rem; overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
`;

/** The page's own style and nothing else: should text of a model ever get past the escaping, it runs and loads nothing. */
const POLICY = `default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-${
  createHash("sha256").update(STYLE).digest("base64")
}'`;

/**
 * The report of a run as one HTML page that needs nothing else: curves, answers, figures, configuration,
 * files.
 */
export function reportHtml(report: RunReport): string {
  const { config, state, device, version } = report;
  const name = escapeXml(runName(config));
  const evaluated = finalFigures(report).some(({ before }) => before !== "");
  const figures = finalFigures(report).map(({ name, before, after }) => [
    code(name),
    ...(evaluated ? [cell("number", before)] : []),
    cell("number", after),
  ]);
  const settings = configEntries(config).map(([key, value]) => [
    code(key),
    cell("text", plain(value)),
  ]);
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${name}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${name}</h1>
<p class="sub">${
    escapeXml(`${config.lossType} · ${state.global_step} steps · ${device} · simper ${version}`)
  }</p>
${
    section(
      "Warnings",
      collapsesOf(state).map((one) => `<p>${escapeXml(describeCollapse(one))}</p>`).join("\n"),
    )
  }
${section("Figures", table(evaluated ? ["figure", "before", "after"] : ["figure", "value"], figures))}
${section("Curves", charts(state.log_history))}
${section("Answers before and after", answers(report.answers))}
${section("Configuration", table(["key", "value"], settings))}
${section("Files", files([...report.modelFiles, ...report.dataFiles]))}
</body>
</html>
`;
}

/** Writes report.html. */
export async function writeReportHtml(folder: string, report: RunReport): Promise<void> {
  await writeText(folder, "report.html", reportHtml(report));
}

function charts(log: readonly LogEntry[]): string {
  const drawn = CHARTS.map(({ title, keys }) => {
    const series: Series[] = keys
      .map(([key, name, style]) => ({ name, style, points: pointsOf(log, key) }))
      .filter(({ points }) => points.some(([, y]) => Number.isFinite(y)));
    return series.length > 0 ? chart(title, series) : "";
  });
  return drawn.some(Boolean) ? `<div class="charts">${drawn.join("\n")}</div>` : "";
}

function chart(title: string, series: readonly Series[]): string {
  const keys = series.map(({ name, style }) =>
    `<span class="key"><svg viewBox="0 0 32 16" aria-hidden="true"><line class="line ${style}" x1="0" x2="32" y1="9" ` +
    `y2="9"/></svg> ${escapeXml(name)}</span>`
  );
  const caption = `${escapeXml(title)}${series.length > 1 ? keys.join("") : ""}`;
  return `<figure><figcaption>${caption}</figcaption>${lineChart(title, series)}</figure>`;
}

function pointsOf(log: readonly LogEntry[], key: string): [number, number][] {
  return log.filter((entry) => key in entry).map((entry) => [entry.step, entry[key] ?? NaN]);
}

function answers(list: readonly Answer[]): string {
  const rows = list.map(({ prompt, before, after }) =>
    [prompt, before, after].map((text) => cell("text", text))
  );
  return table(["prompt", "before", "after"], rows);
}

function files(list: readonly HashedFile[]): string {
  return table(["file", "SHA-256"], list.map(({ path, sha256 }) => [cell("text", path), code(sha256)]));
}

/** A section, or nothing where it would be empty. */
function section(title: string, body: string): string {
  return body && `<section><h2>${title}</h2>${body}</section>`;
}

/** A table of cells that are HTML already, or nothing where it has no rows. */
function table(head: string[], rows: string[][]): string {
  if (rows.length === 0) return "";
  const headRow = `<tr>${head.map((title) => `<th>${title}</th>`).join("")}</tr>`;
  return `<div class="scroll"><table>${headRow}${
    rows.map((row) => `<tr>${row.join("")}</tr>`).join("\n")
  }</table></div>`;
}

function cell(style: string, text: string): string {
  return `<td class="${style}">${escapeXml(text)}</td>`;
}

function code(text: string): string {
  return `<td><code>${escapeXml(text)}</code></td>`;
}

function plain(value: unknown): string {
  if (value instanceof Map) return [...value].map(([path, share]) => `${path}: ${share}`).join("\n");
  return typeof value === "string" ? value : JSON.stringify(value);
}
