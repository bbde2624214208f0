/**
 * Runs cases in a process of its own, which its parent can end: `child.ts ROOT SEED TARGET FROM TO`. A line goes to
 * stdout before each case ("case N"), for each failure ("fail N MESSAGE as JSON"), now and then ("time MILLISECONDS")
 * and at the end ("peak MEGABYTES", "done").
 */
import { allocations, resetAllocations } from "./allocations.ts";
import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../../lib/errors.ts";
import { Random } from "./random.ts";
import type { Target, World } from "./target.ts";
import { TARGETS } from "./targets.ts";
import { BROKEN } from "./targets/broken.ts";

const LONGEST_MESSAGE = 8000;
/** Memory that a parser may ask for besides a multiple of its input: buffers for reading in pieces. */
const FREE_BYTES = 16 * 2 ** 20;
const BYTES_PER_BYTE = 64;

const [root, seed, name, from, to] = Deno.args;
const world: World = { folder: join(root, "case"), outside: join(root, "outside") };
const target = [...TARGETS, ...BROKEN].find((target) => target.name === name)!;
/**
 * Linux counts what the parent had when this process was made: only beyond that is it known what this one had at its
 * most.
 */
const inherited = process.resourceUsage().maxRSS;
let most = 0;
const say = (line: string) => void writeSync(1, Buffer.from(`${line}\n`));

new Worker(new URL("clock.ts", import.meta.url), { type: "module" });
mkdirSync(world.outside, { recursive: true });
let unhandled: unknown;
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled = event.reason;
});
for (let number = Number(from); number < Number(to); number++) {
  say(`case ${number}`);
  const problem = await runCase(target, number);
  most = Math.max(most, process.memoryUsage().rss / 1024);
  if (problem !== undefined) say(`fail ${number} ${JSON.stringify(problem.slice(0, 3000))}`);
}
const { maxRSS } = process.resourceUsage();
say(`peak ${Math.ceil((maxRSS > inherited ? maxRSS : most) / 1024)}`);
say("done");
Deno.exit(0);

/** Runs one case and says what is wrong with how it went. */
async function runCase(target: Target, number: number): Promise<string | undefined> {
  rmSync(world.folder, { recursive: true, force: true });
  mkdirSync(world.folder);
  const { bytes, run } = target.make(new Random(Number(seed), number), world);
  resetAllocations();
  unhandled = undefined;
  const problems: string[] = [];
  try {
    await run();
  } catch (error) {
    if (!(error instanceof UserError)) {
      problems.push(`not a UserError: ${error instanceof Error ? error.stack : error}`);
    } else {
      const { message } = error;
      if (message.length > LONGEST_MESSAGE) {
        problems.push(`a message of ${message.length}: ${message.slice(0, 300)}`);
      }
      if (!target.names.test(message)) problems.push(`a message without a place: ${message}`);
    }
  }
  const { largest, total } = allocations;
  const most = FREE_BYTES + BYTES_PER_BYTE * bytes;
  if (largest > most || total > 4 * most) {
    problems.push(`asked for ${largest} bytes at once, ${total} in all, for an input of ${bytes}`);
  }
  if (unhandled !== undefined) {
    problems.push(`an unhandled rejection: ${unhandled instanceof Error ? unhandled.stack : unhandled}`);
  }
  const escaped = [
    ...readdirSync(root).filter((name) => name !== "case" && name !== "outside"),
    ...readdirSync(world.outside).map((name) => `outside/${name}`),
  ];
  if (escaped.length > 0) {
    problems.push(`wrote outside of its folder: ${escaped.join(", ")}`);
    for (const name of escaped) rmSync(join(root, name), { recursive: true });
  }
  return problems.length > 0 ? problems.join("\n") : undefined;
}
