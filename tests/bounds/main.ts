/**
 * `deno task test:bounds [--filter=TEXT] [FILE ...]`: tests of kernels and whole runs, or those named, with kernels
 * that note what they access out of bounds (`checked_source.ts`). Without names it fails too where a line of a kernel
 * that accesses something was come by in none of them: what is not run is not proven. Kernels of float16 matrices are
 * run on Dawn, and left out, which is told, where there is none.
 */
import { join } from "node:path";
import { NATIVE, whyNoDawn } from "../dawn/native.ts";
import { testCommand } from "../run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";
import { accessLines } from "./kernel_text.ts";
import type { Found } from "./files.ts";

/** Whole runs and steps: on the engines' own capacities, all that a plan places is bound as a run binds it. */
const RUNS = [
  "tests/bounds/runs.ts",
  "tests/run/optimizer_run_test.ts",
  "tests/run/losses_test.ts",
  "tests/run/reference_test.ts",
  "tests/losses/check_test.ts",
  "tests/adapters/golden_test.ts",
  "tests/adapters/quantized_test.ts",
  "tests/graph/decoder_test.ts",
  "tests/graph/adapters_test.ts",
  "tests/graph/early_update_test.ts",
  "tests/graph/norm_parameters_test.ts",
  "tests/graph/quantized_step_test.ts",
  "tests/graph/residual_test.ts",
  "tests/graph/roles_test.ts",
  "tests/graph/stage_test.ts",
  "tests/generation/generator_test.ts",
  "tests/models/architectures_test.ts",
];
/** What stands in kernels and is called by none of them: single elements of B, where its rows are whole vec4s. */
const UNCALLED = [
  "fn b1(i: u32) -> f32 { return b4(i)[i & 3u]; }",
  "fn b1(i: u32) -> f32 { return b[i >> 2u][i & 3u]; }",
];
/** Of kernels that only Dawn runs, and of those tests which name them. */
const ON_DAWN = [
  ["tests/kernels/gemm_matrix_test.ts"],
  ["tests/kernels/attention_matrix_test.ts"],
  ["--filter=float16 matrices", "tests/kernels/gemm_epilogue_test.ts"],
  ["--filter=float16 matrices", "tests/kernels/quantized_test.ts"],
  ["--filter=float16 matrices", "tests/bounds/runs.ts"],
];
const needsDawn = (file: string) => /matrix|attention_scales|gemm_largest/.test(file);

const kernelTests = () =>
  [...Deno.readDirSync("tests/kernels")].map(({ name }) => `tests/kernels/${name}`)
    .filter((path) => path.endsWith("_test.ts") && !needsDawn(path) && !path.endsWith("barriers_test.ts"))
    .sort();

let hasFailed = false;

/** Runs tests in a process of their own; the lines of kernels that access something and were come by. */
async function reachedIn(words: readonly string[], isOnDawn: boolean, folder: string): Promise<string[]> {
  const output = join(folder, "found.json");
  const [, ...rest] = testCommand(["tests/bounds/files.ts", `--output=${output}`, ...words]);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...isOnDawn ? NATIVE : [], ...rest],
    env: { SIMPER_WEBGPU_ENGINE: isOnDawn ? "dawn" : "deno" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  if (!success) hasFailed = true;
  // Not there where the process ended before its time.
  const found: Found = JSON.parse(await Deno.readTextFile(output).catch(() => '{ "reached": [] }'));
  await Deno.remove(output).catch(() => {});
  return found.reached;
}

async function runAll(folder: string): Promise<void> {
  const reached = new Set<string>();
  const run = async (words: readonly string[], isOnDawn = false) => {
    for (const line of await reachedIn(words, isOnDawn, folder)) reached.add(line);
  };
  for (const path of [...kernelTests(), ...RUNS]) await run([path]);
  const why = await whyNoDawn();
  if (why === undefined) { for (const words of ON_DAWN) await run(words, true); }
  else console.log(`not run: kernels of float16 matrices: ${why}`);
  const lines = accessLines("kernels")
    .filter(({ file, text }) => !UNCALLED.includes(text) && (why === undefined || !needsDawn(file)));
  const missing = lines.filter(({ pattern }) => ![...reached].some((line) => pattern.test(line)));
  for (const { file, text } of missing) console.log(`never come by: kernels/${file}: ${text}`);
  if (missing.length > 0) hasFailed = true;
  console.log(
    `${lines.length - missing.length} of ${lines.length} lines of kernels that access something were come by`,
  );
}

for (const word of Deno.args) {
  if (word.startsWith("--filter=")) continue;
  const isFile = !word.startsWith("-") && (await Deno.stat(word).catch(() => undefined))?.isFile;
  if (isFile) continue;
  console.error(`${word}: expected a file of tests: deno task test:bounds [--filter=TEXT] [FILE ...]`);
  Deno.exit(2);
}
if (Deno.args.length > 0 && Deno.args.every((word) => word.startsWith("--"))) {
  console.error("--filter=TEXT: of which files? deno task test:bounds --filter=TEXT FILE ...");
  Deno.exit(2);
}
const isDawn = Deno.env.get("SIMPER_WEBGPU_ENGINE") === "dawn";
await withTemporaryFolder(async (folder) => {
  if (Deno.args.length > 0) await reachedIn(Deno.args, isDawn, folder);
  else await runAll(folder);
});
Deno.exit(hasFailed ? 1 : 0);
