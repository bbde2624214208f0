import assert from "node:assert/strict";
import { judge } from "./run.ts";

const ended = (code: number, signal: string | null = null) => ({ code, signal });
const text = (summary: string, ...counts: number[]) =>
  counts.map((count, i) => `running ${count} ${count === 1 ? "test" : "tests"} from ./tests/${i}_test.ts\n`)
    .join("") +
  `\n\x1b[32m${summary}\x1b[0m\n\n`;
const GREEN = text("ok\x1b[0m | 5 passed (2 steps) | 0 failed | 1 ignored \x1b[90m(3s)", 1, 5);
const FAILURE = "a sum is right => ./tests/1_test.ts:3:6";
const RED = text(` FAILURES \n\n${FAILURE}\n\nFAILED\x1b[0m | 4 passed | 2 failed (1 step) (3s)`, 1, 5);

Deno.test("a run whose tests pass is green, with its counts", () => {
  assert.deepEqual(judge(ended(0), GREEN), { isGreen: true, passed: 5, failed: 0, ignored: 1, failures: [] });
});

Deno.test("a run of tests that fail is red, whatever ended its process", () => {
  for (const status of [ended(1), ended(134, "SIGABRT"), ended(139, "SIGSEGV")]) {
    assert.deepEqual(judge(status, RED), {
      isGreen: false,
      passed: 4,
      failed: 2,
      ignored: 0,
      failures: [FAILURE],
    });
  }
});

Deno.test("a crash after the summary of all tests does not turn a green run red, and is told of", () => {
  const { isGreen, warning, passed } = judge(ended(134, "SIGABRT"), GREEN);
  assert.deepEqual([isGreen, passed], [true, 5]);
  assert.match(warning!, /SIGABRT ended the process after all its tests had passed/);
});

Deno.test("a crash before the summary, or with a summary of fewer tests than were begun, is red", () => {
  const begun = "running 5 tests from ./tests/a_test.ts\na ... ok (1ms)\n";
  for (
    const printed of [
      "",
      begun,
      // What a test of another runner prints.
      `${begun}ok | 3 passed | 0 failed (1s)\n`,
      `${GREEN}running 1 test from ./tests/b_test.ts\n`,
    ]
  ) {
    const { isGreen, failed } = judge(ended(134, "SIGABRT"), printed);
    assert.deepEqual([isGreen, failed], [false, 1], printed);
  }
});

Deno.test("a status of the process's own is red after a green summary too, as of an error outside of all tests", () => {
  assert.equal(judge(ended(1), GREEN).isGreen, false);
  assert.equal(judge(ended(0), "no summary").isGreen, false);
});
