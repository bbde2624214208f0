/**
 * Runs the tests of files of kernels, [--filter=TEXT] FILE ..., with `deno run`: with Dawn, `deno test` hardly comes on
 * any more once it has waited for the GPU for long, as it does where the software driver compiles a kernel for seconds.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

interface Test {
  name: string;
  ignore?: boolean;
  fn: () => void | Promise<void>;
}

const isFilter = (word: string) => word.startsWith("--filter=");
const filter = Deno.args.find(isFilter)?.slice("--filter=".length) ?? "";
const count = { passed: 0, failed: 0, ignored: 0 };
for (const file of Deno.args.filter((word) => !isFilter(word))) {
  const tests: Test[] = [];
  const [before, after]: (() => void | Promise<void>)[][] = [[], []];
  const register = Object.assign(
    (test: Test | string, fn?: Test["fn"]) =>
      void tests.push(typeof test === "string" ? { name: test, fn: fn! } : test),
    {
      beforeAll: (fn: Test["fn"]) => void before.push(fn),
      afterAll: (fn: Test["fn"]) => void after.push(fn),
    },
  );
  Object.defineProperty(Deno, "test", { value: register, configurable: true });
  await import(pathToFileURL(resolve(file)).href);
  console.log(`${tests.length} tests of ${file}`);
  for (const hook of before) await hook();
  for (const { name, ignore, fn } of tests.filter(({ name }) => name.includes(filter))) {
    const start = performance.now();
    const error = ignore ? undefined : await Promise.try(fn).then(() => undefined, (error) => error as Error);
    count[ignore ? "ignored" : error ? "failed" : "passed"]++;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${name} ... ${ignore ? "ignored" : error ? `FAILED\n${error.stack}` : `ok (${seconds} s)`}`);
  }
  for (const hook of after) await hook();
}
// As `deno test` ends.
console.log(
  `${
    count.failed > 0 ? "FAILED" : "ok"
  } | ${count.passed} passed | ${count.failed} failed | ${count.ignored} ignored`,
);
// What waits for the GPU would keep the process.
Deno.exit(count.failed > 0 ? 1 : 0);
