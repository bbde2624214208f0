import { createHash } from "node:crypto";
import { type Collapse, describeCollapse } from "../training/collapse.ts";
import { writeWhole } from "../files/whole_file.ts";
import { finalFigures, type RunFacts, runFacts, runName, type RunReport } from "./run_report.ts";
import { lossName, rewardsAreMeans } from "../losses/losses.ts";
import type { HashedFile } from "../data/hash.ts";
import { escapeXml, lineChart, type Series, thinned } from "./svg.ts";
import { collapsesOf } from "../checkpoint/trainer_state.ts";
import type { LogEntry } from "../training/log_entry.ts";

/**
 * A chart: what it is called, what its values are, and the keys of the log that it draws, evaluation beside training.
 */
interface Chart {
  title: string;
  unit: string;
  keys: readonly [key: string, name: string, style: string][];
}

/** One figure, of training and of evaluation. */
const pair = (key: string): Chart["keys"] => [
  [key, "training", "first"],
  [`eval_${key}`, "evaluation", "second"],
];

/** One figure of chosen and of rejected responses, of training and of evaluation. */
const responses = (key: string): Chart["keys"] => [
  [`${key}/chosen`, "chosen", "first"],
  [`${key}/rejected`, "rejected", "second"],
  [`eval_${key}/chosen`, "chosen, evaluation", "first dashed"],
  [`eval_${key}/rejected`, "rejected, evaluation", "second dashed"],
];

/** Those that the log has figures of are drawn. */
const chartsOf = (areMeans: boolean): readonly Chart[] => [
  { title: "Loss", unit: "loss", keys: pair("loss") },
  {
    title: areMeans ? "Rewards (mean log-probabilities)" : "Rewards",
    unit: areMeans ? "nats a token" : "reward",
    keys: responses("rewards"),
  },
  {
    title: "Accuracy (chosen above rejected)",
    unit: "share of pairs",
    keys: pair("rewards/accuracies"),
  },
  {
    title: "Margin (chosen less rejected)",
    unit: areMeans ? "nats a token" : "reward",
    keys: pair("rewards/margins"),
  },
  { title: "End of text where a response ends", unit: "probability", keys: pair("eos/probability") },
  { title: "Most probable token is the label", unit: "share of tokens", keys: pair("mean_token_accuracy") },
  { title: "Entropy of the next token", unit: "nats", keys: pair("entropy") },
  { title: "Mean logit", unit: "logit", keys: responses("logits") },
  {
    title: "Gradient norm before clipping",
    unit: "norm",
    keys: [["grad_norm", "gradient norm", "first"]],
  },
  { title: "Learning rate", unit: "learning rate", keys: [["learning_rate", "learning rate", "first"]] },
  {
    title: "Tokens per second",
    unit: "tokens/s",
    keys: [["tokens_per_second", "tokens per second", "first"]],
  },
];

const STYLE = `
:root { color-scheme: light dark; --text: #1c2026; --soft: #5b6470; --rule: #dfe3e8; --page: #fff; --first: #1f5fd0;
  --second: #c4560b; --c1: #1f5fd0; --c2: #c4560b; --c3: #11805d; --c4: #a3339b; --c5: #8a6d00; --c6: #0e7a94;
  --c7: #b3263b; --c8: #5b6470; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ee; --soft: #9aa4b1; --rule: #343a44; --page: #15181d; --first: #7fb0ff; --second: #ffa45c;
    --c1: #7fb0ff; --c2: #ffa45c; --c3: #5fd3a6; --c4: #e79be0; --c5: #e3c655; --c6: #67d3ea; --c7: #ff8e9b;
    --c8: #aab3bf; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } p.sub { color: var(--soft); margin-top: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; max-width: 34rem; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; display: block; }
.key { font-weight: 400; color: var(--soft); margin-left: .8em; white-space: nowrap; }
.key svg { display: inline; width: 1.6em; height: .8em; vertical-align: baseline; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .first { stroke: var(--first); }
.second { stroke: var(--second); } .dashed { stroke-dasharray: 5 4; } .mark { stroke-width: 0; }
${
  Array.from({ length: 8 }, (_, i) =>
    `.c${i + 1} { stroke: var(--c${i + 1}); } .mark.c${i + 1} { fill: var(--c${i + 1}); }`)
    .join("\n")
}
.interval { stroke-width: 4; stroke-linecap: round; } .faint { opacity: .45; }
.mark.first { fill: var(--first); } .mark.second { fill: var(--second); }
table { border-collapse: collapse; width: 100%; } .scroll { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule); }
td.text { white-space: pre-wrap; min-width: 12rem; overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { white-space: nowrap; font-weight: 600; }
@media (max-width: 36rem) { td.text { min-width: 6.5rem; } }
@media (max-width: 28rem) { .tick { font-size: 15px; } }
progress { width: 100%; accent-color: var(--first); }
button { font: inherit; padding: .3rem 1rem; } #note { color: var(--soft); margin-left: .5rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
`;

const sha256 = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/**
 * The page's own style and nothing else: should text of a model ever get past the escaping, it runs and loads
 * nothing.
 */
const POLICY = `default-src 'none'; base-uri 'none'; form-action 'none'; style-src ${sha256(STYLE)}`;

/** What a report is made of, of a run that goes on or has ended. */
export interface ReportSource {
  facts: RunFacts;
  log: readonly LogEntry[];
  collapses: readonly Collapse[];
  /** The content of all_results.json, or the newest figures. */
  results: Readonly<Record<string, number>>;
}

/**
 * The sections of a report as HTML, by the name of their place in the page; those that would be empty are. What comes
 * of files or of a model is escaped.
 */
export function reportSections({ facts, log, collapses, results }: ReportSource): Record<string, string> {
  const shown = finalFigures(log, results);
  const evaluated = shown.some(({ before }) => before !== "");
  const figures = shown.map(({ name, before, after }) => [
    code(name),
    ...(evaluated ? [cell("number", before)] : []),
    cell("number", after),
  ]);
  const settings = facts.settings.map(([key, value]) => [code(key), cell("text", value)]);
  return {
    warnings: section(
      "Warnings",
      collapses.map((one) => `<p>${escapeXml(describeCollapse(one))}</p>`).join("\n"),
    ),
    answers: answers(facts.answers),
    curves: section("Curves", charts(log, facts.lossType)),
    figures: section(
      "Figures",
      table(evaluated ? ["figure", "before", "after"] : ["figure", "value"], figures),
    ),
    configuration: section("Configuration", table(["key", "value"], settings)),
    files: section("Files", files([...facts.modelFiles, ...facts.dataFiles])),
  };
}

/** A page with the style of reports; all but its title is HTML. */
export function page(
  { title, head = "", body, script }: { title: string; head?: string; body: string; script?: string },
): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
${head}<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
${script === undefined ? "" : `<script type="module">${script}</script>\n`}</body>
</html>
`;
}

/** As `page`, in a file that loads and runs nothing. */
export const savedPage = (title: string, body: string) =>
  page({ title, head: `<meta http-equiv="Content-Security-Policy" content="${POLICY}">\n`, body });

/** Sections, each in an element of its name. */
export const placed = (sections: Readonly<Record<string, string>>) =>
  Object.entries(sections).map(([id, html]) => `<div id="${id}">${html}</div>`).join("\n");

/** What stands above all sections. */
export const heading = (name: string, parts: readonly string[]) =>
  `<h1>${escapeXml(name)}</h1>\n<p class="sub">${escapeXml(parts.join(" · "))}</p>`;

/** What a page with `script` may do that is served: its own style and script, and calls of its own server. */
export const servedPolicy = (script: string) =>
  `${POLICY}; script-src ${sha256(script)}; connect-src 'self'; frame-ancestors 'none'`;

/** The report of a run as one HTML page that needs nothing else: answers, curves, figures, configuration, files. */
export function reportHtml(report: RunReport): string {
  const { config, state, device, version, results } = report;
  const sections = reportSections({
    facts: runFacts(report),
    log: state.log_history,
    collapses: collapsesOf(state),
    results,
  });
  const parts = [lossName(config.lossType), `${state.global_step} steps`, device, `simper ${version}`];
  return savedPage(runName(config), `${heading(runName(config), parts)}\n${placed(sections)}`);
}

/** Writes report.html. */
export async function writeReportHtml(folder: string, report: RunReport): Promise<void> {
  await writeWhole(folder, "report.html", reportHtml(report));
}

function charts(log: readonly LogEntry[], loss: string): string {
  const drawn = chartsOf(rewardsAreMeans(loss)).map(({ title, unit, keys }) => {
    const series: Series[] = keys
      .map(([key, name, style]) => ({ name, style, points: pointsOf(log, key) }))
      .filter(({ points }) => points.some(([, y]) => Number.isFinite(y)));
    return series.length > 0 ? chart(title, unit, series) : "";
  });
  return grid(drawn);
}

/** Charts beside each other, as many as there is room for; nothing where all of them are empty. */
export const grid = (drawn: readonly string[]) =>
  drawn.some(Boolean) ? `<div class="charts">${drawn.join("\n")}</div>` : "";

/** A chart of curves under its title, with a key to them. */
export function chart(title: string, unit: string, series: readonly Series[]): string {
  const keys = series.map(({ name, style }) =>
    `<span class="key"><svg viewBox="0 0 32 16" aria-hidden="true"><line class="line ${style}" x1="0" x2="32" y1="9" ` +
    `y2="9"/></svg> ${escapeXml(name)}</span>`
  );
  const caption = `${escapeXml(title)}${
    series.length > 1 || series[0].name === "evaluation" ? keys.join("") : ""
  }`;
  return `<figure><figcaption>${caption}</figcaption>${lineChart(title, unit, series)}</figure>`;
}

function pointsOf(log: readonly LogEntry[], key: string): Series["points"] {
  return thinned(log.filter((entry) => key in entry).map((entry) => [entry.step, entry[key] ?? NaN]));
}

function answers(list: RunFacts["answers"]): string {
  const isAfter = list.some(({ after }) => after !== undefined);
  const rows = list.map(({ prompt, before, after = "" }) =>
    [prompt, before, ...(isAfter ? [after] : [])].map((text) => cell("text", text))
  );
  return section(
    isAfter ? "Answers before and after" : "Answers before training",
    table(["prompt", "before", ...(isAfter ? ["after"] : [])], rows),
  );
}

function files(list: readonly HashedFile[]): string {
  return table(["file", "SHA-256"], list.map(({ path, sha256 }) => [cell("text", path), code(sha256)]));
}

/** A section, or nothing where it would be empty. */
export function section(title: string, body: string): string {
  return body && `<section><h2>${escapeXml(title)}</h2>${body}</section>`;
}

/** A table under a head of texts, of cells that are HTML already, or nothing where it has no rows. */
export function table(head: string[], rows: string[][]): string {
  if (rows.length === 0) return "";
  const headRow = `<tr>${head.map((title) => `<th>${escapeXml(title)}</th>`).join("")}</tr>`;
  return `<div class="scroll"><table>${headRow}${
    rows.map((row) => `<tr>${row.join("")}</tr>`).join("\n")
  }</table></div>`;
}

/** A cell of text. */
export function cell(style: string, text: string): string {
  return `<td class="${style}">${escapeXml(text)}</td>`;
}

/** A cell of text that is code. */
export function code(text: string): string {
  return `<td><code>${escapeXml(text)}</code></td>`;
}
