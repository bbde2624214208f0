/**
 * Runs the tests of files, [--filter=TEXT] [--output=FILE] FILE ..., with kernels that note what is out of bounds.
 */
import { runTests } from "../test_files.ts";
import { BoundsWatch, RUNTIME } from "./watch.ts";

const option = (name: string) =>
  Deno.args.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
const isDawn = Deno.env.get("SIMPER_WEBGPU_ENGINE") === "dawn";
// Not a literal: who does not ask for Dawn does not have it fetched.
const dawn = "npm:webgpu@0.6.2";
const watch = new BoundsWatch(isDawn ? (await import(dawn)).globals : RUNTIME);
const failed = await runTests(Deno.args.filter((word) => !word.startsWith("--")), option("filter"));
const accesses = await watch.accesses();
const output = option("output");
if (output) await Deno.writeTextFile(output, JSON.stringify({ accesses, sources: [...watch.sources] }));
const past = accesses.filter(({ excess }) => excess > 0);
for (const { kernel, what, index, line, excess, length } of past) {
  console.log(`out of bounds: ${kernel}: ${what}[${index}], of ${length}, by ${excess}: ${line}`);
}
const unreached = accesses.filter(({ isReached }) => !isReached).length;
console.log(`${accesses.length} accesses, ${unreached} never come by, ${past.length} out of bounds`);
Deno.exit(failed > 0 || past.length > 0 ? 1 : 0);
