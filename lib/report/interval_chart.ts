import { shorten } from "../text/json.ts";
import { formatFigure } from "./run_report.ts";
import { escapeXml, extent, label, padded, round, ticks, WIDTH } from "./svg.ts";

/** A row of the chart. */
export interface Interval {
  name: string;
  /** CSS class that gives its colour. */
  style: string;
  value: number;
  /** The bounds, where there are any. */
  low?: number;
  high?: number;
  /** What the value is the mean of. */
  points: readonly number[];
}

const LEFT = 150;
/** Half of the last number of the axis stands there. */
const RIGHT = 34;
const ROW = 26;
const TOP = 8;
const BOTTOM = 34;
/** Characters of a name for which there is room. */
const NAME = 16;

/**
 * Values beside each other with their intervals as an SVG element, a row each, over one axis; what each is the mean
 * of as small marks.
 *
 * @param options `line`: a value to compare with, drawn through all rows; `shown`: a value as text.
 */
export function intervalChart(
  title: string,
  intervals: readonly Interval[],
  { line, shown = formatFigure }: {
    line?: { name: string; value: number };
    shown?: (value: number) => string;
  } = {},
): string {
  const all = intervals.flatMap((
    { value, low, high, points },
  ) => [value, low ?? value, high ?? value, ...points]);
  const axis = ticks(...padded(extent(line ? [...all, line.value] : all)));
  const [min, max] = [axis[0], axis[axis.length - 1]];
  const height = TOP + ROW * intervals.length + BOTTOM;
  const bottom = height - BOTTOM;
  const x = (value: number) => round(LEFT + (WIDTH - LEFT - RIGHT) * (value - min) / (max - min));
  const parts = axis.map((value) =>
    `<line class="grid" x1="${x(value)}" x2="${x(value)}" y1="${TOP}" y2="${bottom}"/>` +
    label(x(value), bottom + 18, "middle", shown(value))
  );
  if (line) {
    parts.push(
      `<line class="line dashed faint c8" x1="${x(line.value)}" x2="${
        x(line.value)
      }" y1="${TOP}" y2="${bottom}">` +
        `<title>${escapeXml(`${line.name}: ${shown(line.value)}`)}</title></line>`,
    );
  }
  for (const [i, { name, style, value, low, high, points }] of intervals.entries()) {
    const y = TOP + ROW * (i + 0.5);
    const bounds = low === undefined || high === undefined ? "" : ` [${shown(low)}, ${shown(high)}]`;
    parts.push(label(LEFT - 10, y + 4, "end", escapeXml(shorten(name, NAME))));
    if (low !== undefined && high !== undefined) {
      parts.push(
        `<line class="interval faint ${style}" x1="${x(low)}" x2="${x(high)}" y1="${y}" y2="${y}"/>`,
      );
    }
    for (const point of points) {
      parts.push(`<circle class="mark faint ${style}" cx="${x(point)}" cy="${y}" r="3"/>`);
    }
    parts.push(
      `<circle class="mark ${style}" cx="${x(value)}" cy="${y}" r="5"><title>${
        escapeXml(`${name}: ${shown(value)}${bounds}`)
      }</title></circle>`,
    );
  }
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeXml(title)}">${
    parts.join("")
  }</svg>`;
}
