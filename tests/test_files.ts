/**
 * Runs the tests of files in this process, as `deno test` does: for what has to be done before or after them, and for
 * Dawn, with which `deno test` hardly comes on any more once it has waited for the GPU for long, as it does where the
 * software driver compiles a kernel for seconds.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

type Body = (context: { step: (name: string, body: Body) => Promise<boolean> }) => void | Promise<void>;

interface Test {
  name: string;
  ignore?: boolean;
  fn: Body;
}

/** Runs those tests of `files` whose names have `filter`; returns how many failed, and says so as `deno test` ends. */
export async function runTests(files: readonly string[], filter = ""): Promise<number> {
  const count = { passed: 0, failed: 0, ignored: 0 };
  const runTest = async ({ name, ignore, fn }: Test, indent = ""): Promise<boolean> => {
    const start = performance.now();
    const step = (name: string, body: Body) => runTest({ name, fn: body }, `${indent}  `);
    const error = ignore
      ? undefined
      : await Promise.try(fn, { step }).then(() => undefined, (error) => error as Error);
    count[ignore ? "ignored" : error ? "failed" : "passed"]++;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const what = ignore ? "ignored" : error ? `FAILED\n${error.stack}` : `ok (${seconds} s)`;
    console.log(`${indent}${name} ... ${what}`);
    return !error;
  };
  for (const file of files) {
    const tests: Test[] = [];
    const [before, after]: (() => void | Promise<void>)[][] = [[], []];
    const register = Object.assign(
      (test: Test | string, fn?: Test["fn"]) =>
        void tests.push(typeof test === "string" ? { name: test, fn: fn! } : test),
      {
        beforeAll: (fn: () => void | Promise<void>) => void before.push(fn),
        afterAll: (fn: () => void | Promise<void>) => void after.push(fn),
      },
    );
    Object.defineProperty(Deno, "test", { value: register, configurable: true });
    await import(pathToFileURL(resolve(file)).href);
    console.log(`${tests.length} tests of ${file}`);
    for (const hook of before) await hook();
    for (const test of tests.filter(({ name }) => name.includes(filter))) await runTest(test);
    for (const hook of after) await hook();
  }
  const { passed, failed, ignored } = count;
  console.log(`${failed > 0 ? "FAILED" : "ok"} | ${passed} passed | ${failed} failed | ${ignored} ignored`);
  return failed;
}
