/** Runs the tests of files of kernels, [--filter=TEXT] FILE ..., with `deno run` (see `test_files.ts`). */
import { runTests } from "../test_files.ts";

const isFilter = (word: string) => word.startsWith("--filter=");
const filter = Deno.args.find(isFilter)?.slice("--filter=".length);
const failed = await runTests(Deno.args.filter((word) => !isFilter(word)), filter);
// What waits for the GPU would keep the process.
Deno.exit(failed > 0 ? 1 : 0);
