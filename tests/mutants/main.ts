/**
 * `deno task mutants [TEXT ...] [--list] [--check] [--limit=SECONDS]`: tries careless edits, all or those whose names
 * hold one of the texts, and names those that no test notices. `--check` only looks whether each can still be made.
 */
import { parseArgs } from "node:util";
import { ALL } from "./all.ts";
import { mutantsOf, problemsOf, tryMutants } from "./mutants.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    list: { type: "boolean" },
    check: { type: "boolean" },
    limit: { type: "string", default: "300" },
  },
});
const chosen = mutantsOf(ALL).filter(({ name }) =>
  positionals.length === 0 || positionals.some((text) => name.includes(text))
);
if (chosen.length === 0) {
  console.error(`${positionals.join(", ")}: no edit has this in its name; --list has their names`);
  Deno.exit(1);
}
if (values.list) {
  for (const { name, tests, filter } of chosen) {
    console.log(`${name}\n  ${tests.join(" ")}${filter ? ` --filter="${filter}"` : ""}`);
  }
  Deno.exit(0);
}
const problems = await problemsOf(chosen, ".");
for (const problem of problems) console.error(problem);
if (problems.length > 0) Deno.exit(1);
if (values.check) {
  console.log(`${chosen.length} edits can be made`);
  Deno.exit(0);
}

const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort());
const unnoticed: string[] = [];
let count = 0;
let untried = 0;
await tryMutants(chosen, ".", {
  limit: Number(values.limit),
  signal: stop.signal,
  report({ mutant: { name }, verdict, seconds }) {
    console.log(`${++count}/${chosen.length} ${verdict}: ${name} (${seconds.toFixed(1)} s)`);
    if (verdict === "not tried, without Dawn") untried++;
    else if (verdict !== "noticed") unnoticed.push(`${verdict}: ${name}`);
  },
});
if (stop.signal.aborted) Deno.exit(130);
for (const line of unnoticed) console.log(line);
const tried = count - untried;
console.log(
  `${tried - unnoticed.length} noticed, ${unnoticed.length} not${
    untried > 0 ? `, ${untried} not tried` : ""
  }`,
);
Deno.exit(unnoticed.length > 0 ? 1 : 0);
