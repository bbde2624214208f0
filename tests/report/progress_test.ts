import assert from "node:assert/strict";
import { createLogger } from "../../lib/report/log.ts";
import {
  bar,
  describeStep,
  formatDuration,
  Progress,
  type ProgressOptions,
} from "../../lib/report/progress.ts";

/** A progress of ten steps whose clock the test sets, in seconds, and what it has written. */
function progress(options: Partial<ProgressOptions> = {}) {
  const written: string[] = [];
  const clock = { seconds: 100 };
  const shown = new Progress(10, {
    write: (text) => written.push(text),
    isTerminal: false,
    logLevel: "info",
    loggingSteps: 4,
    now: () => clock.seconds * 1000,
    ...options,
  });
  return { shown, written, clock };
}

Deno.test("a duration is minutes and seconds, with hours where there are any", () => {
  const durations = [0, 6.6, 59.6, 754, 3599.4, 3723, 360_000].map(formatDuration);
  assert.deepEqual(durations, ["0:00", "0:07", "1:00", "12:34", "59:59", "1:02:03", "100:00:00"]);
});

Deno.test("a bar fills in proportion and keeps its width", () => {
  assert.equal(bar(0, 4, 8), "[>       ]");
  assert.equal(bar(1, 4, 8), "[==>     ]");
  assert.equal(bar(4, 4, 8), "[========]");
  assert.equal(bar(0, 0, 8), "[========]");
});

Deno.test("a step tells its figures and the time gone and left", () => {
  const figures = { loss: -0.12345, accuracy: 0.75, tokensPerSecond: 1234.4 };
  assert.equal(
    describeStep(12, 80, 12, figures),
    "12/80  loss -0.1235  accuracy 0.750  1,234 tokens/s  0:12<1:08",
  );
  assert.equal(describeStep(0, 80, 0, {}), "0/80  0:00<?");
  assert.equal(describeStep(60, 80, 10, {}, 10), "60/80  0:10<0:20");
});

Deno.test("elsewhere than on a terminal, logged steps and the last are plain lines", () => {
  const { shown, written, clock } = progress();
  for (let step = 1; step <= 10; step++) {
    clock.seconds += 2;
    shown.update(step, { loss: step / 10 });
  }
  shown.write("a message\n");
  shown.finish();
  assert.deepEqual(written, [
    "step 4/10  loss 0.4000  0:08<0:12\n",
    "step 8/10  loss 0.8000  0:16<0:04\n",
    "step 10/10  loss 1.0000  0:20<0:00\n",
    "a message\n",
  ]);
});

Deno.test("on a terminal one line is redrawn, within its width, and messages go above it", () => {
  const { shown, written, clock } = progress({ isTerminal: true, columns: 41 });
  clock.seconds += 3;
  shown.update(5, { loss: 0.5 });
  const line = "[==========>         ] 5/10  loss 0.5000";
  assert.equal(written[0], `\r\x1b[2K${line}`);
  assert.equal(line.length, 40);
  shown.write("a message\n");
  assert.equal(written[1], `\r\x1b[2Ka message\n${line}`);
  shown.finish();
  shown.finish();
  assert.deepEqual(written.slice(2), ["\n"]);
});

Deno.test("a run that goes on counts the time left by its own steps", () => {
  const { shown, written, clock } = progress({ startStep: 6, loggingSteps: 1 });
  clock.seconds += 5;
  shown.update(7, {});
  assert.deepEqual(written, ["step 7/10  0:05<0:15\n"]);
});

Deno.test("progress is silent where only errors are shown", () => {
  for (const isTerminal of [true, false]) {
    const { shown, written } = progress({ logLevel: "error", isTerminal });
    shown.update(10, { loss: 1 });
    shown.finish();
    assert.deepEqual(written, []);
  }
});

Deno.test("a logger shows its level and above, and names all levels but info", () => {
  const written: string[] = [];
  const levels = ["debug", "info", "warning", "error"] as const;
  for (const least of levels) {
    const log = createLogger(least, (text) => written.push(`${least}| ${text}`));
    for (const level of levels) log[level]("text");
  }
  assert.deepEqual(written, [
    "debug| debug: text\n",
    "debug| text\n",
    "debug| warning: text\n",
    "debug| error: text\n",
    "info| text\n",
    "info| warning: text\n",
    "info| error: text\n",
    "warning| warning: text\n",
    "warning| error: text\n",
    "error| error: text\n",
  ]);
});
