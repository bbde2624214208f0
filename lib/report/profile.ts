/** A profile for people: a table by kernel, and a trace file for a browser's timeline. */
import type { Profile, Timed } from "../gpu/profiler.ts";

/** All dispatches of one kernel. */
export interface KernelTotal {
  name: string;
  count: number;
  seconds: number;
  flops: number;
  bytes: number;
}

/** What the adapter reaches at most, per second. */
export interface Rates {
  flops: number;
  bytes: number;
}

/** Times by kernel, the longest first. */
export function byKernel(kernels: readonly Timed[]): KernelTotal[] {
  const totals = new Map<string, KernelTotal>();
  for (const { name, seconds, work } of kernels) {
    const total = totals.get(name) ?? { name, count: 0, seconds: 0, flops: 0, bytes: 0 };
    total.count += 1;
    total.seconds += seconds;
    total.flops += work.flops ?? 0;
    total.bytes += work.bytes ?? 0;
    totals.set(name, total);
  }
  return [...totals.values()].sort((a, b) => b.seconds - a.seconds);
}

const totalSeconds = (kernels: readonly Pick<Timed, "seconds">[]): number =>
  kernels.reduce((sum, { seconds }) => sum + seconds, 0);

/** Seconds from the first kernel of each submission to the end of its last: with the copies between them. */
export function busySeconds(kernels: readonly Timed[]): number {
  const spans = new Map<number, { start: number; end: number }>();
  for (const { submission, start, seconds } of kernels) {
    const span = spans.get(submission) ?? { start, end: start };
    spans.set(submission, {
      start: Math.min(span.start, start),
      end: Math.max(span.end, start + seconds),
    });
  }
  return [...spans.values()].reduce((sum, { start, end }) => sum + end - start, 0);
}

/**
 * A row for each kernel: how often, how long, its share of the whole, its rate and, where `ceilings` are known, what
 * part of them.
 */
export function profileTable(kernels: readonly Timed[], ceilings?: Rates): string {
  const whole = totalSeconds(kernels);
  const totals = byKernel(kernels);
  const width = Math.max(6, ...totals.map(({ name }) => name.length));
  const row = (name: string, count: string, ms: string, share: string, rate: string, part: string) =>
    [name.padEnd(width), count.padStart(6), ms.padStart(10), share.padStart(7), rate.padStart(14), part]
      .join("  ").trimEnd();
  return [
    row("kernel", "count", "ms", "share", "rate", ceilings ? "of ceiling" : ""),
    ...totals.map(({ name, count, seconds, flops, bytes }) => {
      const [amount, unit, ceiling] = flops > 0
        ? [flops, "GFLOP/s", ceilings?.flops]
        : [bytes, "GB/s   ", ceilings?.bytes];
      const rate = amount && seconds ? amount / seconds : 0;
      return row(
        name,
        String(count),
        (1000 * seconds).toFixed(2),
        percent(seconds / whole),
        rate ? `${(rate / 1e9).toFixed(1)} ${unit}` : "",
        rate && ceiling ? percent(rate / ceiling).padStart(10) : "",
      );
    }),
    row("all", String(kernels.length), (1000 * whole).toFixed(2), percent(1), "", ""),
  ].join("\n");
}

export const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;

/**
 * The profile in Chrome's trace event format, for chrome://tracing and ui.perfetto.dev: kernels on one track, the
 * host's work on another. The two clocks are laid together where the first submission begins.
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 */
export function chromeTrace({ kernels, host }: Profile, title: string): string {
  // Uploads come before the first submission; viewers expect times from 0.
  const zero = [...kernels, ...host].reduce((least, { start }) => Math.min(least, start), 0);
  const track = (tid: number, name: string) => ({
    ph: "M",
    name: "thread_name",
    pid: 1,
    tid,
    args: { name },
  });
  const complete = (tid: number, cat: string, name: string, start: number, seconds: number, args = {}) => ({
    ph: "X",
    pid: 1,
    tid,
    cat,
    name,
    ts: 1e6 * (start - zero),
    dur: 1e6 * seconds,
    args,
  });
  return JSON.stringify({
    displayTimeUnit: "ms",
    traceEvents: [
      { ph: "M", name: "process_name", pid: 1, tid: 0, args: { name: title } },
      track(1, "GPU"),
      track(2, "host"),
      ...kernels.map(({ name, start, seconds, workgroups, work: { flops, bytes } }) =>
        complete(1, "kernel", name, start, seconds, {
          ...(workgroups && { workgroups: workgroups.join(" x ") }),
          ...(flops && { GFLOP: flops / 1e9, "GFLOP/s": flops / seconds / 1e9 }),
          ...(bytes && { MB: bytes / 1e6, "GB/s": bytes / seconds / 1e9 }),
        })
      ),
      ...host.map(({ name, start, seconds }) => complete(2, "host", name, start, seconds)),
    ],
  });
}
