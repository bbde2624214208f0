import { printable } from "./log.ts";
import { formatFigure } from "./run_report.ts";

/** One curve of a chart. */
export interface Series {
  name: string;
  /** CSS class that gives its colour. */
  style: string;
  /** In the order of x; a point whose y is no finite number breaks the curve. */
  points: readonly (readonly [x: number, y: number])[];
}

/** Of a chart. */
export const WIDTH = 460;
const HEIGHT = 256;
const LEFT = 78;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 44;
/** Curves with more points than this carry small marks. */
const MARKED_POINTS = 60;

/**
 * A line chart over steps as an SVG element. Its classes are `grid`, `tick`, `line`, `mark` and those of the
 * series; each point tells its figures when it is pointed at.
 *
 * @param unit what its values are, along the axis.
 */
export function lineChart(title: string, unit: string, series: readonly Series[]): string {
  const points = series.flatMap((one) => one.points).filter(([, y]) => Number.isFinite(y));
  const [minX, maxX] = extent(points.map(([x]) => x));
  const yTicks = ticks(...padded(extent(points.map(([, y]) => y))));
  const [minY, maxY] = [yTicks[0], yTicks[yTicks.length - 1]];
  const x = (value: number) => round(LEFT + (WIDTH - LEFT - RIGHT) * ((value - minX) / (maxX - minX || 1)));
  const y = (value: number) =>
    round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((value - minY) / (maxY - minY)));

  const parts: string[] = [];
  for (const value of yTicks) {
    parts.push(`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}"/>`);
    parts.push(label(LEFT - 6, y(value) + 4, "end", formatFigure(value)));
  }
  for (
    const value of ticks(minX, maxX).filter((tick) => Number.isInteger(tick) && tick >= minX && tick <= maxX)
  ) {
    parts.push(label(x(value), HEIGHT - BOTTOM + 18, "middle", formatFigure(value)));
  }
  parts.push(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", "step"));
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  parts.push(label(14, middle, "middle", escapeXml(unit), ` transform="rotate(-90 14 ${middle})"`));
  for (const { name, style, points } of series) {
    for (const run of unbroken(points)) {
      const path = run.map(([px, py]) => `${x(px)},${y(py)}`).join(" ");
      if (run.length > 1) parts.push(`<polyline class="line ${style}" points="${path}"/>`);
      const radius = points.length <= MARKED_POINTS ? 3 : 1;
      for (const [px, py] of run) {
        const told = escapeXml(`${name}: ${formatFigure(py)} at step ${px}`);
        parts.push(
          `<circle class="mark ${style}" cx="${x(px)}" cy="${
            y(py)
          }" r="${radius}"><title>${told}</title></circle>`,
        );
      }
    }
  }
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeXml(title)}">${
    parts.join("")
  }</svg>`;
}

/**
 * At most some `most` points of a curve that look as all of them do: of each stretch of steps the lowest and the
 * highest.
 */
export function thinned(points: Series["points"], most = WIDTH): Series["points"] {
  if (points.length <= most) return points;
  const stretch = Math.ceil(2 * points.length / most);
  const kept = new Set<number>([0, points.length - 1]);
  for (let begin = 0; begin < points.length; begin += stretch) {
    const end = Math.min(begin + stretch, points.length);
    let [low, high] = [begin, begin];
    for (let i = begin; i < end; i++) {
      // One that is no number breaks the curve: it stays.
      if (!Number.isFinite(points[i][1])) kept.add(i);
      if (points[i][1] < points[low][1]) low = i;
      if (points[i][1] > points[high][1]) high = i;
    }
    kept.add(low).add(high);
  }
  return points.filter((_, i) => kept.has(i));
}

/** Text made safe for HTML and XML, in content and in quoted attributes. */
export function escapeXml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return printable(text).replace(/[&<>"']/g, (sign) => entities[sign]);
}

/** About five round numbers, the first at or below `min` and the last at or above `max`. */
export function ticks(min: number, max: number): number[] {
  const rough = (max - min) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9))! * power;
  const first = Math.floor(min / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(max / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** A text of a chart. */
export function label(x: number, y: number, anchor: string, text: string, more = ""): string {
  return `<text class="tick" x="${x}" y="${y}" text-anchor="${anchor}"${more}>${text}</text>`;
}

/** The least and the largest of values. */
export function extent(values: readonly number[]): [number, number] {
  return values.reduce(([min, max], value) => [Math.min(min, value), Math.max(max, value)], [
    Infinity,
    -Infinity,
  ]);
}

/** A range of some height, so that a constant lies in the middle, and five digits tell its ticks apart. */
export function padded([min, max]: [number, number]): [number, number] {
  const largest = Math.max(Math.abs(min), Math.abs(max));
  const more = max > min ? Math.max(0, largest / 1000 - (max - min)) / 2 : largest / 10 || 1;
  return [min - more, max + more];
}

function unbroken(points: Series["points"]): Series["points"][number][][] {
  const runs: Series["points"][number][][] = [[]];
  for (const point of points) {
    if (Number.isFinite(point[1])) runs[runs.length - 1].push(point);
    else runs.push([]);
  }
  return runs;
}

/** A coordinate, with as many digits as can be seen. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
