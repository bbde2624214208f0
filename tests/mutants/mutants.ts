/** Careless edits that some test must notice, and what tries them: see `main.ts`. */
import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { judge, testCommand } from "../run.ts";

/** Edits of one file, and the tests that must notice each. */
export interface Edits {
  file: string;
  /** Test files: the cheapest that should notice. */
  tests: readonly string[];
  /** Only the tests whose names hold this text. */
  filter?: string;
  /** Its tests need subgroup matrices, which only Dawn offers: where it finds no driver, the edit is not tried. */
  isOnDawn?: true;
  /** What goes wrong, then the text that stands once in the file, and what takes its place. */
  edits: readonly (readonly [what: string, text: string, replacement: string])[];
}

/** One edit. */
export interface Mutant extends Omit<Edits, "edits"> {
  /** `FILE: WHAT`. */
  name: string;
  text: string;
  replacement: string;
}

export const mutantsOf = (all: readonly Edits[]): Mutant[] =>
  all.flatMap(({ edits, ...rest }) =>
    edits.map(([what, text, replacement]) => ({ ...rest, name: `${rest.file}: ${what}`, text, replacement }))
  );

/** What keeps edits from being tried on the tree in `root`: texts that are not there once, tests that are not there. */
export async function problemsOf(mutants: readonly Mutant[], root: string): Promise<string[]> {
  const problems: string[] = [];
  const names = new Set<string>();
  for (const { name, file, text, replacement, tests } of mutants) {
    if (names.has(name)) problems.push(`${name}: comes twice`);
    names.add(name);
    const source = await readFile(join(root, file), "utf8").catch(() => undefined);
    const found = source?.split(text).length ?? 0;
    if (source === undefined) problems.push(`${name}: there is no such file`);
    else if (found !== 2) problems.push(`${name}: its text stands there ${found - 1} times: ${text}`);
    if (text === replacement) problems.push(`${name}: changes nothing`);
    if (tests.length === 0) problems.push(`${name}: names no tests`);
    for (const test of tests) {
      const isThere = await readFile(join(root, test)).then(() => true, () => false);
      if (!isThere) problems.push(`${name}: there is no ${test}`);
    }
  }
  return problems;
}

/** What became of an edit. */
export interface Outcome {
  mutant: Mutant;
  verdict: "noticed" | "NOT NOTICED" | "tests fail without it" | "not tried, without Dawn";
  seconds: number;
}

/**
 * Tries each edit in a copy of the tree that git knows of, changes that are not committed included: its tests must
 * fail, or take longer than `limit` seconds. They are run once without any edit before, and must pass.
 */
export async function tryMutants(
  mutants: readonly Mutant[],
  root: string,
  { limit, report, signal }: { limit: number; report: (outcome: Outcome) => void; signal?: AbortSignal },
): Promise<void> {
  const copy = await mkdtemp(join(tmpdir(), "simper-mutants-"));
  try {
    for (
      const name of (await output("git", ["-C", root, "ls-files", "-co", "--exclude-standard"])).split("\n")
    ) {
      // A file that was removed and is not committed as such.
      if (name) await cp(join(root, name), join(copy, name)).catch(() => {});
    }
    const passes = new Map<string, Promise<Verdict>>();
    for (const mutant of mutants) {
      if (signal?.aborted) return;
      const command = mutant.isOnDawn ? dawnCommand(mutant) : testCommand(mutant.tests, mutant.filter);
      const key = command.join(" ");
      if (!passes.has(key)) passes.set(key, run(command, copy, 3 * limit, signal));
      const start = performance.now();
      const end = (verdict: Outcome["verdict"]) =>
        report({ mutant, verdict, seconds: (performance.now() - start) / 1000 });
      const before = await passes.get(key);
      if (before !== "green") {
        end(before === "not run" ? "not tried, without Dawn" : "tests fail without it");
        continue;
      }
      const path = join(copy, mutant.file);
      const source = await readFile(path, "utf8");
      await writeFile(path, source.replace(mutant.text, () => mutant.replacement));
      const after = await run(command, copy, limit, signal);
      await writeFile(path, source);
      if (!signal?.aborted) end(after === "green" ? "NOT NOTICED" : "noticed");
    }
  } finally {
    await rm(copy, { recursive: true });
  }
}

/** What says, with its reason, that there is no driver that it takes. */
const dawnCommand = ({ tests, filter }: Mutant): string[] => [
  "run",
  "--quiet",
  "--allow-run",
  "--allow-env",
  "tests/dawn/main.ts",
  ...filter === undefined ? [] : [`--filter=${filter}`],
  ...tests,
];

/** Whether tests ran and all passed, in time. */
type Verdict = "green" | "red" | "not run";

async function run(
  command: string[],
  cwd: string,
  limit: number,
  signal?: AbortSignal,
): Promise<Verdict> {
  // A group of its own, so that the programs that tests start end with them.
  const child = spawn(process.execPath, command, {
    cwd,
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const stop = () => process.kill(-child.pid!, "SIGKILL");
  const timeout = setTimeout(stop, 1000 * limit);
  signal?.addEventListener("abort", stop);
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text) => printed += text);
  const [code, name] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.on("close", (...ended) => resolve(ended))
  );
  clearTimeout(timeout);
  signal?.removeEventListener("abort", stop);
  const { isGreen, passed } = judge({ code: code ?? 1, signal: name }, printed);
  if (code === 0 && printed.startsWith("not run: ")) return "not run";
  return isGreen && passed > 0 ? "green" : "red";
}

async function output(command: string, words: string[]): Promise<string> {
  const child = spawn(command, words, { stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text) => printed += text);
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  return printed;
}
