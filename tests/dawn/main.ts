/**
 * `deno task test:dawn [--filter=TEXT] [FILE ...]`: tests of what computes, or those named, with Dawn as the engine. On a machine
 * without Dawn or without a driver that it takes nothing is run, and the reason is told; `tests/newer_mesa.sh` makes
 * one that has such a driver.
 */
import { testCommand } from "../run.ts";

const PATHS = [
  "tests/run/train_test.ts",
  "tests/kernels/gemm_matrix_test.ts",
  "tests/kernels/attention_matrix_test.ts",
  "tests/dawn/engine.ts",
  "tests/dawn/precision.ts",
];
/** Of these, whose kernels take a driver on the processor minutes to compile, what the other engine cannot run. */
const MATRICES_OF = [
  "--filter=float16 matrices",
  "tests/kernels/gemm_epilogue_test.ts",
  "tests/kernels/quantized_test.ts",
];

const env = { SIMPER_WEBGPU_ENGINE: "dawn" };
const deno = (args: readonly string[], stderr: "inherit" | "piped" = "inherit") =>
  new Deno.Command(Deno.execPath(), { args: [...args], env, stdin: "null", stderr, stdout: "inherit" });

// In a process of its own, with a device that ends with it.
const NATIVE = ["--frozen", "--lock=lib/gpu/dawn.lock", "--allow-ffi"];
const probe = ["run", "--quiet", ...NATIVE, "--allow-env", "tests/dawn/probe.ts"];
const { success, stderr } = await deno(probe, "piped").output();
if (!success) {
  console.log(`not run: ${new TextDecoder().decode(stderr).trim()}`);
  Deno.exit(0);
}
const isFilter = (word: string) => word.startsWith("--filter=");
const filter = Deno.args.filter(isFilter);
const given = Deno.args.filter((word) => !isFilter(word));
const paths = given.length > 0 ? given : PATHS;
const kernels = paths.filter((path) => /\bkernels\b/.test(path));
const others = paths.filter((path) => !kernels.includes(path));
// With the permissions of tests.
const kernelCommand = (words: readonly string[]) => [
  "run",
  ...testCommand(["tests/dawn/kernels.ts", ...words]).slice(1),
];
const commands = [
  ...others.length > 0 ? [testCommand([...filter, ...others])] : [],
  ...kernels.length > 0 ? [kernelCommand([...filter, ...kernels])] : [],
  ...given.length > 0 ? [] : [kernelCommand(MATRICES_OF)],
];
let status = 0;
for (const [command, ...words] of commands) {
  const { code } = await deno([command, ...NATIVE, ...words]).output();
  status ||= code;
}
Deno.exit(status);
