/**
 * `deno task fuzz [TARGET[=CASES] ...] [--seed=N] [--cases=N] [--case=N]`: damaged files of every format, or of those
 * named, through the program's readers. `--case` runs one case again.
 */
import { parseArgs } from "node:util";
import { type Failure, fuzz } from "./fuzz.ts";
import { TARGETS } from "./targets.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: { seed: { type: "string" }, cases: { type: "string", default: "1000" }, case: { type: "string" } },
});
const names = TARGETS.map(({ name }) => name);
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const chosen = positionals.length > 0 ? positionals : names;
let failed = 0;
for (const word of chosen) {
  const [name, cases = values.cases] = word.split("=");
  if (!names.includes(name)) {
    console.error(`error: unknown format ${name}: expected ${names.join(", ")}`);
    Deno.exit(2);
  }
  const [from, to] = values.case === undefined
    ? [0, Number(cases)]
    : [Number(values.case), Number(values.case) + 1];
  const begun = performance.now();
  const { failures, megabytes } = await fuzz(name, seed, from, to);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(
    `${name}: ${to - from} cases of seed ${seed}, ${failures.length} failures, ${seconds} s, ${megabytes} MB`,
  );
  report(failures);
  failed += failures.length;
}
Deno.exit(failed > 0 ? 1 : 0);

function report(failures: readonly Failure[]): void {
  for (const { target, number, problem } of failures.slice(0, 40)) {
    console.log(`  ${target} --seed=${seed} --case=${number}: ${problem.replaceAll("\n", "\n    ")}`);
  }
}
