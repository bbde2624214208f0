/** A comparison as tables, as a page and as JSON. */
import { basename } from "node:path";
import type { Shown } from "../evaluation/report.ts";
import type { MeanEstimate } from "../evaluation/statistics.ts";
import { formatBytes } from "../text/format_bytes.ts";
import { cell, chart, grid, heading, placed, savedPage, section, table } from "../report/html.ts";
import { type Interval, intervalChart } from "../report/interval_chart.ts";
import { formatFigure } from "../report/run_report.ts";
import { escapeXml, type Series, thinned } from "../report/svg.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { ComparisonResult } from "./compare.ts";
import { aloneAtTheTop, type Compared, compared, type Difference, FIGURES, middle } from "./figures.ts";

/** A comparison with its statistics. */
export interface Report extends ComparisonResult {
  outputDir: string;
  seeds: readonly number[];
  found: Compared;
}

export const reportOf = (result: ComparisonResult, outputDir: string, seeds: readonly number[]): Report => ({
  ...result,
  ...{ outputDir, seeds, found: compared(result.before, result.members) },
});

/** What compare.json holds. */
export function reportJson({ found, device, version, split, text, seeds, ...report }: Report): string {
  const answers = report.prompts.map((prompt, i) => ({
    prompt,
    before: report.before.answers[i],
    members: report.members.map(({ name, runs }) => ({
      name,
      answers: runs.map(({ seed, measurement }) => ({ seed, ...measurement.answers[i] })),
    })),
  }));
  return `${JSON.stringify({ version, device, split, text, seeds, ...found, answers }, null, 2)}\n`;
}

/** A mean with half its interval, to two digits of that. */
export function withHalf({ value, low, high }: MeanEstimate): string {
  if (low === undefined || high === undefined || high === low) return formatFigure(value);
  const half = (high - low) / 2;
  const digits = Math.min(Math.max(1 - Math.floor(Math.log10(half)), 0), 8);
  const fixed = (number: number) =>
    digits > 6 || Math.abs(number) >= 1e6 ? number.toExponential(1) : number.toFixed(digits);
  return `${digits > 6 || Math.abs(value) >= 1e6 ? formatFigure(value) : value.toFixed(digits)} ±${
    fixed(half)
  }`;
}

const titleOf = (name: string) => FIGURES.find((figure) => figure.name === name)!.title;
const isBytes = (name: string) => /bytes/.test(name);

/** Columns of the two tables of figures, by the names of those. */
const COLUMNS: readonly [title: string, columns: readonly [name: string, head: string][]][] = [
  ["Pairs", [
    ["rewards/accuracies", "accuracy (mean logp)"],
    ["logps/accuracies", "(logp)"],
    ["log_ratios/accuracies", "(log-ratio)"],
    ["rewards/margins", "margin"],
    ["rewards/chosen", "chosen"],
    ["rewards/rejected", "rejected"],
    ["logps/chosen", "logps/chosen"],
    ["logps/rejected", "logps/rejected"],
  ]],
  ["Answers, text and costs", [
    ["answers/tokens", "answer tokens"],
    ["answers/ended", "ended"],
    ["eos/probability", "eos/probability"],
    ["text/perplexity", "perplexity"],
    ["seconds_per_pair", "seconds a pair"],
    ["memory_bytes", "GPU memory"],
    ["bytes_per_pair", "bytes a pair"],
  ]],
];

/** The tables. */
export function tablesOf({ found, split, text, seeds }: Report): Shown[] {
  const { before, members, pairs } = found;
  const shownAs = (name: string, estimate: MeanEstimate | undefined) =>
    estimate === undefined ? "" : isBytes(name) ? formatBytes(estimate.value) : withHalf(estimate);
  const about = [
    `: ${pairs.toLocaleString("en-US")} of ${split}, ${seedsText(seeds)}`,
    text === undefined ? "" : `: text is ${text}`,
  ];
  const figures = COLUMNS.map(([title, all], i): Shown => {
    const columns = all.filter(([name]) => name in before || members.some(({ figures }) => name in figures));
    return {
      title: `${title}${about[i]}`,
      head: ["", ...columns.map(([, head]) => head)],
      rows: [
        [
          "before",
          ...columns.map(([name]) => shownAs(name, name in before ? { value: before[name] } : undefined)),
        ],
        ...members.map(({ name, figures }) => [
          name,
          ...columns.map(([figure]) => shownAs(figure, figures[figure])),
        ]),
      ],
    };
  });
  const differing = members.flatMap(({ name, differences }) =>
    differences.map((one) => [name, one] as const)
  );
  return [
    ...figures,
    ...differing.length > 0
      ? [{
        title: `Differences from ${members[0].name}, with 95 % intervals`,
        head: ["", "figure", "over seeds", "over pairs", "p", "told apart"],
        rows: differing.map(([name, { figure, seeds, pairs, isSure }]) => [
          name,
          figure,
          withBounds(seeds),
          pairs ? withBounds(pairs) : "",
          pairs ? formatFigure(pairs.p) : "",
          isSure ? pairs ? "yes" : "yes, over seeds" : "no",
        ]),
      }]
      : [],
  ];
}

/** A difference as text: what rounding leaves of none is none. */
const shownDifference = (value: number) => formatFigure(Math.abs(value) < 1e-12 ? 0 : value);

const withBounds = ({ value, low, high }: MeanEstimate) =>
  low === undefined || high === undefined
    ? shownDifference(value)
    : `${shownDifference(value)} [${shownDifference(low)}, ${shownDifference(high)}]`;

const seedsText = (seeds: readonly number[]) =>
  seeds.length > 1
    ? `${seeds.length} seeds, ± is half of a 95 % interval over them (Student's)`
    : "one seed, so without intervals over seeds";

/** What can be said, and what cannot: a sentence each. */
export function findings(report: Report): string[] {
  const { found, seeds } = report;
  const { members, lengths } = found;
  const lines: string[] = [];
  for (const { name, failures, isSeedless, seeds: others } of members) {
    for (const { seed, why } of failures) {
      const rest = others.length > 0 ? `Its figures are of ${others.join(", ")}.` : "It has no figures.";
      lines.push(`${name}, seed ${seed}: no result: ${why}. ${rest}`);
    }
    if (isSeedless) {
      lines.push(
        `${name}: the seeds change nothing in it, as where pairs come in the data's order: its runs count as one, ` +
          "without an interval, and it is not told apart from others.",
      );
    }
  }
  const first = members[0].name;
  for (
    const figure of FIGURES.filter(({ better, name }) => better && members.some((one) => name in one.figures))
  ) {
    const best = aloneAtTheTop(members, figure);
    const differing = members.flatMap(({ name, differences }) =>
      differences.filter((one) => one.figure === figure.name).map((one) => ({ name, ...one }))
    );
    const sign = figure.better === "lower" ? -1 : 1;
    const names = (is: (one: Difference) => boolean) =>
      differing.filter(is).map(({ name }) => name).join(", ");
    const groups = [
      ["better than it", names(({ isSure, seeds }) => isSure && sign * seeds.value > 0)],
      ["worse", names(({ isSure, seeds }) => isSure && sign * seeds.value < 0)],
      ["not told apart from it", names(({ isSure }) => !isSure)],
    ].filter(([, list]) => list !== "").map(([what, list]) => `${what}: ${list}`);
    const top = best
      ? `${best} is alone at the top`
      : members.length > 1
      ? "none is alone at the top"
      : "there is nothing to compare with";
    lines.push(
      `${sentence(figure.title)}: ${top}.${
        groups.length > 0 ? ` Beside ${first}, ${groups.join("; ")}.` : ""
      }`,
    );
  }
  lines.push(
    `The data's responses have ${formatFigure(lengths.chosen)} tokens where they are chosen, ${
      formatFigure(lengths.rejected)
    } where rejected: look at the length of answers beside every accuracy.`,
  );
  lines.push(
    seeds.length > 1
      ? "Intervals over seeds take the pairs as given, those over pairs the seeds; a difference is told apart where " +
        "both leave 0 out, or the one over seeds where there is none over pairs. Each is one of several looks at 95 %."
      : "With one seed nothing is known of how far another would be: no difference is called sure.",
  );
  const holding = report.members.filter(({ runs }) => runs.some(({ usesReference }) => usesReference));
  if (holding.length > 0) {
    const paces = holding.flatMap(({ runs }) =>
      runs.flatMap(({ log }) => log.map((entry) => entry.eval_samples_per_second).filter((pace) => pace > 0))
    );
    const pace = middle(paces);
    lines.push(
      `${
        holding.map(({ name }) => name).join(", ")
      }: a reference's log-probabilities are needed, and are computed once, before ` +
        `the first step. The seconds a pair are without that${
          pace === undefined ? "" : `: a pass as in an evaluation, of ${formatFigure(1 / pace)} s`
        }.`,
    );
  }
  lines.push(
    "Losses differ in what they call a reward: SimPER and SimPO the mean log-probability, DPO and its kin " +
      "the log-ratio to the model that training began with. Each accuracy is given for all.",
  );
  return lines;
}

const sentence = (text: string) => text[0].toUpperCase() + text.slice(1);

/** Colours, by the place of a member; from the ninth on they come again, dashed. */
const styleOf = (place: number) => `c${place % 8 + 1}${place % 16 < 8 ? "" : " dashed"}`;

/** Figures that are drawn with their intervals. */
const DRAWN = [
  ...[
    "rewards/accuracies",
    "logps/accuracies",
    "log_ratios/accuracies",
    "rewards/chosen",
    "rewards/rejected",
  ],
  ...[
    "answers/tokens",
    "answers/ended",
    "eos/probability",
    "text/perplexity",
    "seconds_per_pair",
    "bytes_per_pair",
  ],
];

/** Curves, by keys of the log that mean the same under every loss; but for accuracies, which are by its own reward. */
const CURVES: readonly [key: string, title: string, unit: string][] = [
  ["logps/chosen", "Chosen, log-probability", "nats a response"],
  ["logps/rejected", "Rejected, log-probability", "nats a response"],
  ["rewards/accuracies", "Accuracy by the loss's own reward", "share of pairs"],
  ["eos/probability", "End of text where chosen ends", "probability"],
  ["mean_token_accuracy", "Most probable token is chosen's", "share of tokens"],
  ["entropy", "Entropy of the next token", "nats"],
];

/** The page, which loads and runs nothing. */
export function reportHtml(report: Report): string {
  const { found, outputDir, device, version, members } = report;
  const name = basename(outputDir);
  const runs = members.reduce((sum, { runs }) => sum + runs.length, 0);
  const parts = [
    `${members.length} compared`,
    `${runs} runs`,
    ...device ? [device, `simper ${version}`] : [],
  ];
  const tables = tablesOf(report).map(({ title, head, rows }) =>
    section(
      title,
      table(
        head,
        rows.map(([first, ...rest]) => [cell("name", first), ...rest.map((text) => cell("number", text))]),
      ),
    )
  );
  const over = (what: string) => report.seeds.length > 1 ? `${what} over seeds` : "";
  const settings = found.members.map(({ name, keys, seeds }) => [
    cell("name", name),
    cell("text", Object.entries(keys).map(([key, value]) => `${key}: ${value}`).join("\n")),
    cell("text", seeds.join(", ")),
  ]);
  return savedPage(
    name,
    `${heading(name, parts)}\n${
      placed({
        findings: section(
          "What it says",
          `<ul>${findings(report).map((line) => `<li>${escapeXml(line)}</li>`).join("\n")}</ul>`,
        ),
        figures: section(`Figures${over(", with 95 % intervals")}`, intervalCharts(found)),
        curves: section(`Curves${over(", means")}`, curves(report)),
        tables: tables.join("\n"),
        answers: section("Answers", answers(report)),
        settings: section("What differs", table(["name", "keys", "seeds"], settings)),
      })
    }`,
  );
}

function intervalCharts({ before, members }: Compared): string {
  return grid(DRAWN.map((figure) => {
    const rows = members.flatMap(({ name, figures }, i): Interval[] =>
      figures[figure] ? [{ name, style: styleOf(i), ...figures[figure], points: figures[figure].runs }] : []
    );
    if (rows.length === 0) return "";
    const title = sentence(titleOf(figure));
    const line = figure in before ? { name: "before", value: before[figure] } : undefined;
    const options = { line, ...isBytes(figure) && { shown: formatBytes } };
    const key = line
      ? `<span class="key"><svg viewBox="0 0 32 16" aria-hidden="true"><line class="line dashed faint c8" x1="0" x2="32" y1="9" y2="9"/></svg> before training</span>`
      : "";
    return `<figure><figcaption>${escapeXml(title)}${key}</figcaption>${
      intervalChart(title, rows, options)
    }</figure>`;
  }));
}

function curves({ members }: Report): string {
  return grid(CURVES.map(([key, title, unit]) => {
    // Of an evaluation where there are several: they are of the same pairs each time.
    const count = (log: readonly LogEntry[], name: string) => log.filter((entry) => name in entry).length;
    const isEvaluated = members.every(({ runs }) =>
      runs.every(({ log }) => count(log, key) === 0 || count(log, `eval_${key}`) > 1)
    );
    const name = isEvaluated ? `eval_${key}` : key;
    const series = members.flatMap((member, i): Series[] => {
      // Of single responses the others are of those that were judged bad, too.
      const isJudged = member.runs.some(({ pairsPerRow }) => pairsPerRow < 1);
      if (isJudged && !key.startsWith("logps/")) return [];
      const points = meanCurve(member.runs.map(({ log }) => log), name);
      return points.length > 0 ? [{ name: member.name, style: styleOf(i), points: thinned(points) }] : [];
    });
    return series.length > 0 ? chart(`${title}, ${isEvaluated ? "test" : "training"}`, unit, series) : "";
  }));
}

/** The mean over runs at each step that all of them have. */
function meanCurve(logs: readonly (readonly LogEntry[])[], key: string): Series["points"] {
  const values = new Map<number, number[]>();
  for (const log of logs) {
    for (const entry of log) {
      if (key in entry) values.set(entry.step, [...values.get(entry.step) ?? [], entry[key] ?? NaN]);
    }
  }
  return [...values].filter(([, list]) => list.length === logs.length).sort(([a], [b]) => a - b)
    .map(([step, list]) => [step, list.reduce((sum, value) => sum + value, 0) / list.length]);
}

function answers({ prompts, before, members, seeds }: Report): string {
  return prompts.map((prompt, i) => {
    const rows = members.map(({ name, runs }) => [
      cell("name", name),
      ...seeds.map((seed) => {
        const answer = runs.find((run) => run.seed === seed)?.measurement.answers[i];
        return cell("text", answer ? shownAnswer(answer) : "");
      }),
    ]);
    const head = ["", ...seeds.map((seed) => `seed ${seed}`)];
    return `<h3>${escapeXml(prompt)}</h3><p class="sub">before: ${
      escapeXml(shownAnswer(before.answers[i]))
    }</p>${table(head, rows)}`;
  }).join("\n");
}

const shownAnswer = ({ text, ended }: { text: string; ended: boolean }) =>
  `${text === "" ? "(empty)" : text}${ended ? "" : " (cut)"}`;
