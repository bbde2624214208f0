/**
 * `deno task test:dawn [--filter=TEXT] [FILE ...]`: tests of what computes, or those named, with Dawn as the engine. On a machine
 * without Dawn or without a driver that it takes nothing is run, and the reason is told; `tests/newer_mesa.sh` makes
 * one that has such a driver.
 */
import { withTemporaryFolder } from "../temporary_folder.ts";
import { testCommand } from "../run.ts";
import { float32Layer } from "./float32_layer.ts";
import { NATIVE, onDawn, whyNoDawn } from "./native.ts";

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

/** What matrices of float32 multiply, as Apple's GPUs have them, and Mesa's driver where a layer lists them. */
const FLOAT32 = "float32 matrices";
const FLOAT32_KERNELS = ["tests/kernels/gemm_matrix_test.ts", ...MATRICES_OF.slice(1)];

const why = await whyNoDawn();
if (why !== undefined) {
  console.log(`not run: ${why}`);
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
const run = async ([command, ...words]: readonly string[], more?: Record<string, string>) => {
  const { code } = await onDawn([command, ...NATIVE, ...words], { more }).output();
  status ||= code;
};
for (const command of commands) await run(command);
if (Deno.args.length === 0) {
  await withTemporaryFolder(async (folder) => {
    const more = await float32Layer(folder);
    if (typeof more === "string") return console.log(`${FLOAT32}: not run: ${more}`);
    await run(kernelCommand([`--filter=${FLOAT32}`, ...FLOAT32_KERNELS]), more);
    await run(testCommand(["tests/dawn/precision.ts"], FLOAT32), more);
  });
}
Deno.exit(status);
