import assert from "node:assert/strict";
import { entryLine } from "../../lib/report/entry_line.ts";
import { createLogger } from "../../lib/report/log.ts";
import { bar, formatDuration, ProgressLine, type ProgressLineOptions } from "../../lib/report/progress.ts";

const ERASE = "\r\x1b[2K";

/** A line whose clock, in seconds, and width the test sets, and what it has written. */
function progress(options: Partial<ProgressLineOptions> = {}) {
  const written: string[] = [];
  const set = { seconds: 100, columns: 80 };
  const line = new ProgressLine({
    write: (text) => written.push(text),
    canRedraw: true,
    logLevel: "info",
    columns: () => set.columns,
    now: () => set.seconds * 1000,
    ...options,
  });
  /** What stands on the last line of the terminal. */
  const shown = () => written.join("").split("\n").at(-1)!.split(ERASE).at(-1);
  return { line, written, set, shown };
}

const step = (done: number) => ({
  step: done,
  startStep: 0,
  totalSteps: 10,
  loss: -0.12345,
  accuracy: 0.75,
  margin: 0.05,
  gradNorm: 1.23456,
  learningRate: 5e-7,
  tokensPerSecond: 1234.4,
  pairsPerSecond: 12.3,
  secondsLeft: 6.6 * (10 - done),
});
const fetching = (done: number, total = 400e6) => ({ what: "fetching org/tiny", done, total, unit: "bytes" });

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

Deno.test("no figure is minus zero", () => {
  const { line, set, shown } = progress();
  line.step({ step: 0, totalSteps: 10 });
  set.columns = 200;
  set.seconds += 6;
  line.step({ ...step(1), loss: -1e-7, margin: -0 });
  assert.match(shown()!, /loss 0\.0000 .* margin 0\.0000/);
});

Deno.test("steps on a terminal: what does not fit is left out whole, the least important first", () => {
  const { line, set, shown } = progress();
  line.step({ step: 0, totalSteps: 10 });
  assert.equal(shown(), "[>           ]  0/10  0:00");
  set.seconds += 6;
  line.step(step(1));
  const full = "[=>          ]  1/10  loss -0.1235  accuracy 0.750  1,234 tokens/s  0:59 left";
  assert.equal(shown(), full);
  // The width is asked at each drawing.
  const at = (columns: number) => {
    set.columns = columns;
    set.seconds += 1;
    line.step(step(1));
    return shown();
  };
  assert.equal(at(full.length + 1), full);
  assert.equal(at(full.length), full.replace("  1,234 tokens/s", ""));
  assert.equal(at(40), "1/10  loss -0.1235  0:59 left");
  assert.equal(at(12), "1/10");
  assert.equal(at(4), "1/1");
  assert.equal(
    at(200),
    "[===>                          ]  1/10  loss -0.1235  accuracy 0.750  margin 0.0500  grad_norm 1.235  " +
      "learning_rate 5e-7  1,234 tokens/s  12 pairs/s  0:12  0:59 left",
  );
  // A terminal that does not tell has 80.
  assert.equal(at(0), full);
});

Deno.test("work between steps stands in their line, and lines of text above it", () => {
  const { line, written, set, shown } = progress();
  line.step(step(4));
  set.seconds += 1;
  line.update({ what: "evaluating", done: 0, total: 64, unit: "pairs" });
  assert.equal(shown(), "[====>       ]  4/10  evaluating  0/64 pairs  0:01  0:39 left");
  line.write("a message\n");
  assert.equal(written.at(-1), `${ERASE}a message\n${shown()}`);
  // It is not drawn more often than can be seen.
  const drawn = written.length;
  line.update({ what: "evaluating", done: 32, total: 64, unit: "pairs" });
  assert.equal(written.length, drawn);
  line.update({ what: "evaluating", done: 64, total: 64, unit: "pairs" });
  assert.equal(shown(), "[====>       ]  4/10  loss -0.1235  accuracy 0.750  1,234 tokens/s  0:39 left");
  line.finish();
  line.finish();
  assert.deepEqual(written.slice(-1), ["\n"]);
});

Deno.test("a piece of work has its rate and time left, and is gone when it is done", () => {
  const { line, written, set, shown } = progress();
  // What an earlier start left says nothing of the rate.
  line.update(fetching(100e6));
  assert.equal(shown(), "[===>        ]  fetching org/tiny  100.0 MB of 400.0 MB");
  set.seconds += 2;
  line.update(fetching(200e6));
  assert.equal(shown(), "[======>     ]  fetching org/tiny  200.0 MB of 400.0 MB  50.0 MB/s  0:04 left");
  line.update(fetching(400e6));
  assert.equal(shown(), "");
  line.update({ what: "tokenizing train", done: 64, unit: "rows" });
  assert.equal(shown(), "tokenizing train  64 rows");
  set.seconds += 8;
  line.update({ what: "tokenizing train", done: 10_048, unit: "rows" });
  assert.equal(shown(), "tokenizing train  10,048 rows  1,248 rows/s  0:08");
  line.update({ what: "opening the model", done: 0 });
  assert.equal(shown(), "opening the model");
  line.update({ what: "answering before", done: 1.5, total: 6, unit: "prompts" });
  assert.equal(shown(), "[===>        ]  answering before  1/6 prompts");
  line.finish();
  assert.equal(written.at(-1), ERASE);
});

Deno.test("the rate is that of the last seconds", () => {
  const { line, set, shown } = progress({ columns: () => 200 });
  for (let second = 0; second <= 30; second++) {
    set.seconds++;
    line.update(fetching(second < 15 ? second * 20e6 : 280e6 + (second - 15) * 1e6));
  }
  assert.match(shown()!, / 1\.0 MB\/s {2}1:45 left$/);
});

Deno.test("elsewhere than on a terminal, plain lines come now and then, and none where all is done soon", () => {
  const { line, written, set } = progress({ canRedraw: false, loggingSteps: 4 });
  for (let second = 0; second <= 40; second++) {
    set.seconds++;
    line.update(fetching(second * 10e6));
  }
  assert.deepEqual(written.map((text) => text.split("  ").slice(0, 2)), [
    ["fetching org/tiny", "50.0 MB of 400.0 MB"],
    ["fetching org/tiny", "250.0 MB of 400.0 MB"],
    ["fetching org/tiny", "400.0 MB of 400.0 MB"],
  ]);
  written.length = 0;
  line.update({ what: "loading weights", done: 0, total: 9, unit: "bytes" });
  set.seconds += 4;
  line.update({ what: "loading weights", done: 9, total: 9, unit: "bytes" });
  line.step({ step: 0, totalSteps: 10 });
  // A step that is logged has that line; it puts the next plain one off.
  for (let done = 1; done <= 10; done++) {
    set.seconds += 11;
    line.step(step(done));
    if (done % 4 === 0) line.write(`log ${done}\n`);
  }
  line.finish();
  assert.deepEqual(written.map((text) => /^(log )?\w+/.exec(text)![0]), [
    "step",
    "log 4",
    "step",
    "log 8",
    "step",
  ]);
  assert.match(written[0], /^step 2\/10 {2}loss -0\.1235 .* 0:22 {2}0:53 left\n$/);
  assert.ok(!/\p{Cc}/u.test(written.join("").replaceAll("\n", "")));
});

Deno.test("the pairs of a step in hand are counted, and are gone when it is done", () => {
  const { line, set, shown } = progress();
  line.step({ step: 0, totalSteps: 10 });
  set.seconds += 30;
  line.inStep({ done: 2, total: 16 });
  assert.equal(shown(), "[>           ]  0/10  2/16 pairs  0:30");
  set.seconds += 30;
  line.step(step(1));
  assert.match(shown()!, /1\/10 {2}loss/);
  set.seconds += 10;
  line.inStep({ done: 2, total: 16 });
  assert.match(shown()!, /1\/10 {2}2\/16 pairs {2}loss -0\.1235 .* 0:49 left$/);

  const plain = progress({ canRedraw: false, loggingSteps: 1 });
  plain.line.step({ step: 0, totalSteps: 10 });
  for (let done = 0; done < 16; done++) {
    plain.set.seconds += 2;
    plain.line.inStep({ done, total: 16 });
  }
  assert.deepEqual(plain.written, ["step 0/10  2/16 pairs  0:06\n", "step 0/10  12/16 pairs  0:26\n"]);
});

Deno.test("progress is silent where no messages of level info are shown", () => {
  for (const logLevel of ["warning", "error"] as const) {
    for (const canRedraw of [true, false]) {
      const { line, written, set } = progress({ logLevel, canRedraw });
      line.step(step(1));
      set.seconds += 100;
      line.inStep({ done: 1, total: 2 });
      line.update(fetching(1));
      line.step(step(10));
      line.finish();
      assert.deepEqual(written, []);
    }
  }
});

const ENTRY = {
  step: 5,
  epoch: 0.0666667,
  loss: -0.0123456,
  "rewards/chosen": -0.2,
  "rewards/margins": 0.0123,
  "rewards/accuracies": 0.75,
  grad_norm: 0.433333,
  learning_rate: 1e-6,
  num_input_tokens_seen: 2730,
};

Deno.test("a log entry is one line of what people look at, four digits as transformers has them", () => {
  assert.equal(
    entryLine(ENTRY, { totalSteps: 75, left: "1:08 left" }),
    "step 5/75  epoch 0.07  1:08 left  loss -0.01235  grad_norm 0.4333  learning_rate 1e-6  " +
      "rewards/accuracies 0.75  rewards/margins 0.0123",
  );
  const evaluation = { step: 0, epoch: 0, eval_loss: -0.0034828, eval_mean_token_accuracy: 0.5 };
  const shown = "step 0  epoch 0  eval_loss -0.003483";
  assert.equal(entryLine(evaluation, {}), `${shown}  eval_mean_token_accuracy 0.5`);
  assert.equal(
    entryLine({ ...evaluation, "eval_rewards/margins": -1, "eval_rewards/chosen": -2, eval_runtime: 2 }, {}),
    `${shown}  eval_rewards/margins -1`,
  );
});

Deno.test("on a terminal a log entry takes two lines at most, broken between figures", () => {
  assert.equal(
    entryLine(ENTRY, { totalSteps: 75, columns: 80 }),
    "step 5/75  epoch 0.07  loss -0.01235  grad_norm 0.4333  learning_rate 1e-6\n" +
      "  rewards/accuracies 0.75  rewards/margins 0.0123",
  );
  assert.equal(
    entryLine(ENTRY, { columns: 30 }),
    "step 5  epoch 0.07\n  loss -0.01235",
  );
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
