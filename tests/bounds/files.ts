/**
 * Runs the tests of files, [--filter=TEXT] [--output=FILE] FILE ..., with kernels that note what is out of bounds.
 */
import { runTests } from "../test_files.ts";
import { BoundsWatch, RUNTIME } from "./watch.ts";

/** What is written to `--output`. */
export interface Found {
  /** Lines of kernels with an access that some thread came by. */
  reached: string[];
}

const option = (name: string) =>
  Deno.args.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
// Not a literal: who does not ask for Dawn does not have it fetched.
const dawn = "npm:webgpu@0.6.2";
const isDawn = Deno.env.get("SIMPER_WEBGPU_ENGINE") === "dawn";
const watch = new BoundsWatch(isDawn ? (await import(dawn)).globals : RUNTIME);
const failed = await runTests(Deno.args.filter((word) => !word.startsWith("--")), option("filter"));
const accesses = await watch.accesses();
const past = accesses.filter(({ excess }) => excess > 0);
for (const { kernel, what, index, line, excess } of past) {
  console.log(`out of bounds: ${kernel}: ${what}[${index}] by ${excess}: ${line}`);
}
const reached = accesses.filter(({ isReached }) => isReached);
console.log(`${accesses.length} accesses, ${reached.length} come by, ${past.length} out of bounds`);
const output = option("output");
const found: Found = { reached: [...new Set(reached.map(({ line }) => line))] };
if (output) await Deno.writeTextFile(output, JSON.stringify(found));
// What waits for the GPU would keep the process.
Deno.exit(failed > 0 || past.length > 0 ? 1 : 0);
