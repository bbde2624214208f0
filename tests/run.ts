/**
 * `deno task test [FILE ...] [--filter=...]`: the tests, in two processes side by side, and the documented examples,
 * in another; closes with one line of all that passed and failed.
 *
 * A process of many test files may crash as it ends, once in some hundred runs: where libEGL is installed WebGPU
 * opens it, and on exit it frees its tables (`__glDispatchDestroyTable`) while the thread of a test file, which ends
 * just then, still uses them. glibc says "corrupted size vs. prev_size in fastbins" or "double free". That says
 * nothing about tests that had all passed. So a process that a signal ended counts by its summary, where that is of
 * every test that it began to tell of; without one, or with a status of its own, it has failed.
 */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys",
  "--allow-run",
  "--allow-net=127.0.0.1",
];
/** Types are `deno task check`'s work: here they would be checked again for every worker that a test starts. */
const UNCHECKED = "--no-check";

/** What `deno` has to be called with for the tests of `paths`, or those of them whose names hold `filter`. */
export const testCommand = (paths: readonly string[], filter?: string): string[] => [
  "test",
  UNCHECKED,
  ...PERMISSIONS,
  ...filter === undefined ? [] : [`--filter=${filter}`],
  ...paths,
];

/** Some train a little. */
const EXAMPLES = ["test", UNCHECKED, ...PERMISSIONS, "--doc", "lib", "kernels", "mod.ts"];

/** How a process of tests ended. */
export interface Ended {
  /** Whether nothing failed; `warning` where that is so though a signal ended it. */
  isGreen: boolean;
  warning?: string;
  passed: number;
  failed: number;
  ignored: number;
}

/** Judges a process of `deno test` by its status and by what it printed. */
export function judge(
  { code, signal }: { code: number; signal: string | null },
  printed: string,
): Ended {
  // deno-lint-ignore no-control-regex
  const text = printed.replaceAll(/\x1b\[[\d;]*m/g, "");
  const begun = [...text.matchAll(/^running (\d+) tests? from /gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
  const summary = [...text.matchAll(
    /^(ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?(.*)$/gm,
  )].at(-1);
  if (!summary) return { isGreen: false, passed: 0, failed: 1, ignored: 0 };
  const [passed, failed, ignored] = summary.slice(2, 5).map((count) => Number(count ?? 0));
  const counts = { passed, failed, ignored };
  if (code === 0) return { isGreen: true, ...counts };
  const isWhole = summary[1] === "ok" && failed === 0 && passed + ignored === begun;
  if (signal && isWhole) {
    return {
      isGreen: true,
      warning: `${signal} ended the process after all its tests had passed`,
      ...counts,
    };
  }
  return { isGreen: false, ...counts, failed: Math.max(1, failed) };
}

/** Folders whose tests take about as long as all others. */
const HALF = [
  "evaluation",
  "gpu",
  "graph",
  "kernels",
  "models",
  "parameters",
  "planning",
  "run",
  "server",
  "weights",
]
  .map((name) => `tests/${name}`);

/** All other folders and files of tests. */
const others = (): string[] =>
  [...Deno.readDirSync("tests")].filter(({ name, isDirectory }) => isDirectory || name.endsWith("_test.ts"))
    .map(({ name }) => `tests/${name}`).filter((path) => !HALF.includes(path)).sort();

/**
 * Runs tests, showing what they print: as it comes, or at the end where another process of tests is shown meanwhile.
 */
async function run(args: readonly string[], shownAfter?: Promise<unknown>): Promise<Ended> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const decoder = new TextDecoder();
  let printed = "";
  for await (const bytes of child.stdout) {
    printed += decoder.decode(bytes, { stream: true });
    if (!shownAfter) await show(bytes);
  }
  await shownAfter;
  if (shownAfter) await show(new TextEncoder().encode(printed));
  return judge(await child.status, printed);
}

async function show(bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
}

/** Every test there is: two processes side by side, since each keeps one core busy, then the documented examples. */
async function runAll(): Promise<Ended[]> {
  const half = run(testCommand(HALF));
  const rest = run(testCommand(others()), half);
  return [await half, await rest, await run(EXAMPLES)];
}

if (import.meta.main) {
  const isAll = Deno.args.every((word) => word.startsWith("-"));
  const all = Deno.args.length === 0
    ? await runAll()
    : [await run(testCommand([...Deno.args, ...isAll ? ["tests"] : []]))];
  for (const { warning } of all) if (warning) console.log(`warning: ${warning}`);
  const sum = (of: "passed" | "failed" | "ignored") => all.reduce((total, ended) => total + ended[of], 0);
  const skipped = sum("ignored") > 0 ? `, ${sum("ignored")} skipped` : "";
  console.log(`${sum("passed")} passed, ${sum("failed")} failed${skipped}`);
  Deno.exit(all.every(({ isGreen }) => isGreen) ? 0 : 1);
}
