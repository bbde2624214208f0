/** An evaluation as text for the terminal, and as a page. */
import { basename } from "node:path";
import { cell, code, heading, placed, savedPage, section, table } from "../report/html.ts";
import { printable } from "../report/log.ts";
import { formatFigure } from "../report/run_report.ts";
import { VERSION } from "../program/version.ts";
import type { Evaluation } from "./evaluate.ts";
import type { WinRates } from "./judge.ts";
import type { Preferences } from "./preferences.ts";
import type { Estimate } from "./statistics.ts";
import type { TextFigures } from "./text.ts";

/** A table as it is shown anywhere: all its cells are text. */
export interface Shown {
  title: string;
  head: string[];
  rows: string[][];
}

/** The tables of an evaluation. */
export function tablesOf({ split, preferences, text }: Evaluation): Shown[] {
  return [
    ...(preferences ? preferenceTables(preferences, split!) : []),
    ...(text
      ? [{
        title: `Perplexity of ${text.file}, windows ${text.stride} tokens apart`,
        head: ["figure", ...text.models.map(({ name }) => name)],
        rows: (Object.keys(text.models[0].figures) as (keyof TextFigures)[]).map((figure) => [
          figure,
          ...text.models.map(({ figures }) => formatFigure(figures[figure]!)),
        ]),
      }]
      : []),
  ];
}

function preferenceTables({ pairs, judged, models, differences }: Preferences, split: string): Shown[] {
  const names = [...new Set(models.flatMap(({ figures }) => Object.keys(figures)))];
  const rows = pairs.toLocaleString("en-US");
  const what = judged
    ? `${rows} responses of ${split}, ${judged.desirable.toLocaleString("en-US")} of them desirable (chosen)`
    : `${rows} pairs of ${split}`;
  return [
    {
      title: `${what}, with 95 % intervals`,
      head: ["figure", ...models.map(({ name }) => name)],
      rows: names.map((
        name,
      ) => [name, ...models.map(({ figures }) => name in figures ? withBounds(figures[name]) : "")]),
    },
    ...(differences.length > 0
      ? [{
        title: `Differences from ${models[0].name}`,
        head: ["model", "figure", "difference", "p", "test"],
        rows: differences.flatMap(({ names: [, name], accuracy, margins }) => [
          ...accuracy
            ? [[
              name,
              "rewards/accuracies",
              withBounds(accuracy),
              formatFigure(accuracy.p),
              `McNemar, exact: ${accuracy.onlySecond} pairs gained, ${accuracy.onlyFirst} lost`,
            ]]
            : [],
          ...margins
            ? [[name, "rewards/margins", withBounds(margins), formatFigure(margins.p), "paired bootstrap"]]
            : [],
        ]),
      }]
      : []),
  ];
}

const withBounds = ({ value, low, high }: Estimate) =>
  `${formatFigure(value)} [${formatFigure(low)}, ${formatFigure(high)}]`;

/** The table of a judge's annotations. */
export function winRateTable(rates: WinRates, file: string): Shown {
  return {
    title: `${rates.generator} against ${rates.baseline}, by the annotations of ${file}`,
    head: ["figure", "value"],
    rows: Object.entries(rates.figures).map(([name, value]) => [
      name,
      // Two digits of per cent, as alpaca_eval prints them.
      Number.isInteger(value) && name.startsWith("n_") ? String(value) : value.toFixed(2),
    ]),
  };
}

/** Tables in columns of spaces. */
export function tablesText(tables: readonly Shown[]): string {
  return tables.map(({ title, head, rows }) => {
    const lines = [head, ...rows].map((cells) => cells.map(printable));
    const widths = head.map((_, i) => Math.max(...lines.map((cells) => [...cells[i]].length)));
    const text = lines.map((cells) =>
      cells.map((cell, i) => cell + " ".repeat(widths[i] - [...cell].length)).join("  ").trimEnd()
    );
    return [printable(title), "", ...text].join("\n");
  }).join("\n\n");
}

/** Tables as a page in the style of a run's report. */
export function tablesHtml(tables: readonly Shown[], subjects: readonly string[], device?: string): string {
  const sections = Object.fromEntries(
    tables.map(({ title, head, rows }, i) => [
      `table-${i + 1}`,
      section(
        title,
        table(
          head,
          rows.map(([first, ...rest]) => [code(first), ...rest.map((text) => cell("number", text))]),
        ),
      ),
    ]),
  );
  const name = subjects.map((subject) => basename(subject)).join(", ");
  const parts = [...(device === undefined ? [] : [device]), `simper ${VERSION}`];
  return savedPage(name, `${heading(name, parts)}\n${placed(sections)}`);
}
