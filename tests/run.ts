/**
 * `deno task test [FILE ...] [--filter=...]`: the tests and the documented examples, in processes of which two are
 * there at a time; closes with one line of all that passed and failed.
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
  /** The tests that failed, each with where it stands. */
  failures: string[];
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
  const failures = text.match(/^ FAILURES $([^]*?)^FAILED \| /m)?.[1].trim().split("\n") ?? [];
  if (!summary) return { isGreen: false, passed: 0, failed: 1, ignored: 0, failures };
  const [passed, failed, ignored] = summary.slice(2, 5).map((count) => Number(count ?? 0));
  const counts = { passed, failed, ignored, failures };
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

/** Folders whose tests take longest, which begin first: what is left at the end is short then. */
const LONGEST = ["models", "cli", "graph", "run", "kernels", "adapters"].map((name) => `tests/${name}`);

/** The tests of each folder, and of the files that are in none. */
function groups(): string[][] {
  const entries = [...Deno.readDirSync("tests")].sort((a, b) => a.name < b.name ? -1 : 1);
  const paths = (isWanted: (entry: Deno.DirEntry) => boolean) =>
    entries.filter(isWanted).map(({ name }) => `tests/${name}`);
  const hasTests = (folder: string): boolean =>
    [...Deno.readDirSync(folder)].some(({ name, isDirectory }) =>
      name.endsWith("_test.ts") || isDirectory && hasTests(`${folder}/${name}`)
    );
  const folders = paths(({ name, isDirectory }) => isDirectory && hasTests(`tests/${name}`));
  const rest = folders.filter((path) => !LONGEST.includes(path));
  const alone = (folders: readonly string[]) => folders.map((path) => [path]);
  return [...alone(LONGEST), paths(({ name }) => name.endsWith("_test.ts")), ...alone(rest)];
}

const start = (args: readonly string[]) =>
  new Deno.Command(Deno.execPath(), { args: [...args], stdin: "null", stdout: "piped" }).spawn();

/**
 * Shows what tests print, as it comes or, where another's is shown before, once that is over; and judges them.
 */
async function follow(child: ReturnType<typeof start>, before?: Promise<unknown>): Promise<Ended> {
  const decoder = new TextDecoder();
  let printed = "";
  let held: Uint8Array[] | undefined = before && [];
  const release = before?.then(async () => {
    for (let bytes = held!.shift(); bytes; bytes = held!.shift()) await show(bytes);
    held = undefined;
  });
  for await (const bytes of child.stdout) {
    printed += decoder.decode(bytes, { stream: true });
    if (held) held.push(bytes);
    else await show(bytes);
  }
  await release;
  return judge(await child.status, printed);
}

async function show(bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
}

/** Every test there is, a process a folder and two at a time, since each keeps one core busy; then the examples. */
async function runAll(): Promise<Ended[]> {
  const left = [...groups().map((paths) => testCommand(paths)), EXAMPLES];
  const ended: Promise<Ended>[] = [];
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const child = start(next);
      ended.push(follow(child, ended.at(-1)));
      await child.status;
    }
  };
  await Promise.all([work(), work()]);
  return await Promise.all(ended);
}

if (import.meta.main) {
  const isAll = Deno.args.every((word) => word.startsWith("-"));
  const all = Deno.args.length === 0
    ? await runAll()
    : [await follow(start(testCommand([...Deno.args, ...isAll ? ["tests"] : []])))];
  // Once more: what failed is far above by now.
  for (const failure of all.flatMap(({ failures }) => failures)) console.log(`failed: ${failure}`);
  for (const { warning } of all) if (warning) console.log(`warning: ${warning}`);
  const sum = (of: "passed" | "failed" | "ignored") => all.reduce((total, ended) => total + ended[of], 0);
  const skipped = sum("ignored") > 0 ? `, ${sum("ignored")} skipped` : "";
  console.log(`${sum("passed")} passed, ${sum("failed")} failed${skipped}`);
  Deno.exit(all.every(({ isGreen }) => isGreen) ? 0 : 1);
}
