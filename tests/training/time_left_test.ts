import assert from "node:assert/strict";
import { TimeLeft } from "../../lib/training/time_left.ts";

Deno.test("the time left is known from the first step on, and recent steps count for more", () => {
  const left = new TimeLeft({ evaluation: 0, checkpoint: 0 });
  assert.equal(left.of(9), undefined);
  left.addSteps(1, 2);
  assert.equal(left.of(9), 18);
  // Steps that become twice as long.
  for (let step = 0; step < 100; step++) left.addSteps(1, 4);
  assert.ok(Math.abs(left.of(10)! - 40) < 0.2, `${left.of(10)}`);
  // Steps whose figures come together.
  left.addSteps(200, 200);
  assert.ok(Math.abs(left.of(10)! - 10) < 0.1, `${left.of(10)}`);
});

Deno.test("evaluations and checkpoints to come count from when one was measured", () => {
  const left = new TimeLeft({ evaluation: 2, checkpoint: 1 });
  left.addSteps(1, 1);
  assert.equal(left.of(10), 10);
  // One before the first step is none of those to come.
  left.addPause("evaluation", 5, false);
  assert.equal(left.of(10), 20);
  left.addPause("evaluation", 6, true);
  assert.equal(left.of(10), 16);
  left.addPause("checkpoint", 100, true);
  left.addPause("evaluation", 6, true);
  left.addPause("evaluation", 6, true);
  assert.equal(left.of(10), 10);
});
