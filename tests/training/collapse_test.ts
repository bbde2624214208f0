import assert from "node:assert/strict";
import { join } from "node:path";
import { type Collapse, COLLAPSE_BOUND, CollapseAlarm } from "../../lib/training/collapse.ts";
import { task } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** Steps of 16 pairs each whose rewards are those of `rewards`, from one to the next. */
function alarmsOf(rewards: { chosen: number; rejected?: number }[], alarm = new CollapseAlarm()): Collapse[] {
  rewards.forEach((reward, i) => alarm.add(i + 1, 16, reward));
  return [...alarm.alarms];
}

const repeat = <T>(count: number, value: T): T[] => Array(count).fill(value);
const start = repeat(4, { chosen: -1, rejected: -1.5 });
const fallen = { chosen: -1 - COLLAPSE_BOUND - 0.01, rejected: -3 };

Deno.test("a collapse is told of once the means of 64 pairs have fallen by ln 2, chosen and rejected", () => {
  assert.deepEqual(alarmsOf([...start, ...repeat(3, fallen)]), []);
  const [{ step, chosen, rejected }, ...more] = alarmsOf([...start, ...repeat(9, fallen)]);
  assert.deepEqual([step, more], [8, []]);
  assert.ok(Math.abs(chosen - COLLAPSE_BOUND - 0.01) < 1e-9 && Math.abs(rejected - 1.5) < 1e-9);
});

Deno.test("rejected that falls alone is what training is for, and chosen that falls alone is no collapse", () => {
  assert.deepEqual(alarmsOf([...start, ...repeat(20, { chosen: -1.2, rejected: -9 })]), []);
  assert.deepEqual(alarmsOf([...start, ...repeat(20, { chosen: -2, rejected: -1.5 })]), []);
  assert.deepEqual(alarmsOf(repeat(40, { chosen: -9 })), []);
});

Deno.test("a second collapse is told of after chosen has come back, also across a checkpoint", () => {
  const back = repeat(4, { chosen: -1.1, rejected: -3 });
  const all = [...start, ...repeat(5, fallen), ...back, ...repeat(5, fallen)];
  const expected = alarmsOf(all);
  assert.equal(expected.length, 2);
  for (let cut = 0; cut < all.length; cut++) {
    const first = new CollapseAlarm();
    all.slice(0, cut).forEach((reward, i) => first.add(i + 1, 16, reward));
    const second = new CollapseAlarm(JSON.parse(JSON.stringify(first)));
    all.slice(cut).forEach((reward, i) => second.add(cut + i + 1, 16, reward));
    assert.deepEqual(second.alarms, expected, `cut at ${cut}`);
  }
});

Deno.test("a run that collapses is warned of as it does, and its report and trainer_state.json say so", () =>
  withTemporaryFolder(async (folder) => {
    // Far too high a learning rate; 64 pairs are 4 steps.
    const overrides = [
      `--output_dir=${folder}`,
      "--max_steps=9",
      "--learning_rate=0.01",
      "--lr_scheduler_type=constant",
      "--save_strategy=no",
      "--prompts=[]",
      "--do_eval=false",
      "--eval_on_start=false",
      "--log_level=warning",
    ];
    const { status, stderr } = await task("train", "configs/tiny.yaml", ...overrides);
    assert.equal(status, 0, stderr);
    assert.match(
      stderr,
      /^warning: step \d+: chosen responses are becoming improbable together with rejected/m,
    );
    const state = JSON.parse(await Deno.readTextFile(join(folder, "trainer_state.json")));
    const [{ step, chosen }] = state.stateful_callbacks.CollapseAlarm.attributes.collapses;
    assert.ok(step > 4 && chosen > COLLAPSE_BOUND);
    for (const file of ["README.md", "report.html"]) {
      assert.match(await Deno.readTextFile(join(folder, file)), new RegExp(`step ${step}: chosen responses`));
    }
  }));
