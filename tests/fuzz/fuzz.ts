import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";

/** A case that went wrong. */
export interface Failure {
  target: string;
  number: number;
  problem: string;
}

export interface Summary {
  cases: number;
  failures: Failure[];
  /** The most memory that a process of cases had, of those that came to their end. */
  megabytes: number;
}

/** Processor time that a case may take: a machine that is busy with other things makes none too long. */
const LONGEST_CASE = 1000;
/** A process that waits for something that never comes takes no processor time. */
const LONGEST_WAIT = 20_000;
const POLL = 50;

const CHILD = new URL("child.ts", import.meta.url).pathname;

/**
 * Runs the cases `from` to below `to` of a format. A case that hangs, or ends its process, is a failure like any
 * other, and the cases after it still run.
 */
export async function fuzz(target: string, seed: number, from: number, to: number): Promise<Summary> {
  const root = mkdtempSync(join(tmpdir(), "simper-fuzz-"));
  const failures: Failure[] = [];
  let megabytes = 0;
  try {
    for (let next = from; next < to;) {
      const ended = await runChild(
        [root, String(seed), target, String(next), String(to)],
        (number, problem) => {
          failures.push({ target, number, problem });
        },
      );
      megabytes = Math.max(megabytes, ended.megabytes);
      if (ended.problem === undefined) break;
      next = ended.number + 1;
      // A machine that is busy with other things makes a case slow once.
      const [first, end] = [String(ended.number), String(next)];
      const again = ended.isSlow && await runChild([root, String(seed), target, first, end], () => {});
      if (again && again.problem === undefined) continue;
      failures.push({ target, number: ended.number, problem: ended.problem });
    }
  } finally {
    rmSync(root, { recursive: true });
  }
  return { cases: to - from, failures, megabytes };
}

/** How a process ended: in which case, and why if it was not by its own will. */
interface Ended {
  number: number;
  megabytes: number;
  problem?: string;
  isSlow?: boolean;
}

function runChild(words: string[], onFailure: (number: number, problem: string) => void): Promise<Ended> {
  // Links ask for the right to write everywhere; the cases themselves look at what was written where.
  const write = words[2] === "hub" ? "--allow-write" : `--allow-write=${words[0]}`;
  const permissions = ["--allow-read", write, "--allow-env", "--allow-sys"];
  const child = spawn(process.execPath, ["run", "--no-check", ...permissions, CHILD, ...words], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let number = Number(words[3]) - 1;
  let isDone = false;
  let megabytes = 0;
  let hung: string | undefined;
  let errors = "";
  let processor = 0;
  let begun: { clock: number; processor: number } | undefined;
  const watch = setInterval(() => {
    if (!begun) return;
    const clock = performance.now() - begun.clock;
    const took = processor - begun.processor;
    if (took > LONGEST_CASE || clock > LONGEST_WAIT) {
      hung = `hangs: ${Math.round(took)} ms of processor time, ${Math.round(clock)} ms in all`;
      child.kill("SIGKILL");
    }
  }, POLL);
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [kind, at, ...rest] = line.split(" ");
    if (kind === "done") isDone = true;
    else if (kind === "time") processor = Number(at);
    else if (kind === "peak") megabytes = Number(at);
    else if (kind === "fail") onFailure(Number(at), JSON.parse(rest.join(" ")));
    else if (kind === "case") {
      number = Number(at);
      begun = { clock: performance.now(), processor };
    }
  });
  child.stderr.on("data", (text) => errors = (errors + text).slice(-2000));
  return new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearInterval(watch);
      if (isDone) resolve({ number, megabytes });
      else if (begun === undefined) throw new Error(`the process of the cases does not start: ${errors}`);
      else if (hung !== undefined) resolve({ number, megabytes, problem: hung, isSlow: true });
      else resolve({ number, megabytes, problem: `ended its process (${signal ?? code}): ${errors}` });
    });
  });
}
