import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkFiles } from "../../lib/checkpoint/fingerprint.ts";
import { FORMAT, readSavedRun } from "../../lib/checkpoint/state.ts";
import { usualTuning } from "../../lib/gpu/tuning.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const sums = { pairs: 4, chosen: -4, rejected: -6 };
const state = {
  format: FORMAT,
  version: "0.1.0",
  step: 2,
  position: { epoch: 0, pair: 4 },
  run: { config: {}, model: {}, tokenizer: "a", template: "b", train: ["c"] },
  device: "d",
  kernels: usualTuning("software"),
  figures: {
    ...{ pairs: 4, tokens: 90, lossSum: 1.5, flops: 1e9, seconds: 3 },
    window: { steps: [{ loss: 0.5 }], pairs: 2, tokens: 45, seconds: 1.5 },
  },
  collapse: { start: sums, recent: [sums], isRaised: false, alarms: [] },
  answers: ["Yes."],
};

Deno.test("a run_state.json whose values are of another kind is refused, whichever they are", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "trainer_state.json"), JSON.stringify({ global_step: 2, log_history: [] }));
    const write = (changes: object) =>
      writeFile(join(folder, "run_state.json"), JSON.stringify({ ...state, ...changes }));
    await write({});
    assert.deepEqual((await readSavedRun(folder)).state.answers, ["Yes."]);
    for (
      const changes of [
        { step: 0.5 },
        { figures: { ...state.figures, window: undefined } },
        { figures: { ...state.figures, window: { ...state.figures.window, steps: [null] } } },
        { figures: { ...state.figures, lossSum: "1" } },
        { collapse: { ...state.collapse, recent: {} } },
        { collapse: { ...state.collapse, start: undefined } },
        { run: { ...state.run, train: [7] } },
        { run: { ...state.run, date: "2026-02-30" } },
        { run: { ...state.run, date: 7 } },
        { answers: [7] },
        { kernels: [] },
        { device: 7 },
        { version: undefined },
      ]
    ) {
      await write(changes);
      await assert.rejects(readSavedRun(folder), {
        name: "UserError",
        message: /run_state\.json: not as this program writes it/,
      }, JSON.stringify(changes));
    }
  }));

Deno.test("a run_state.json with differences without end is told in few lines", () =>
  withTemporaryFolder(async (folder) => {
    const model = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`.repeat(200), "0"]));
    await writeFile(join(folder, "trainer_state.json"), JSON.stringify({ global_step: 2, log_history: [] }));
    await writeFile(
      join(folder, "run_state.json"),
      JSON.stringify({ ...state, run: { ...state.run, model } }),
    );
    const saved = await readSavedRun(folder);
    assert.throws(() => checkFiles({ ...saved.state.run, model: {} }, saved, 100), (error: Error) => {
      assert.match(error.message, /\n {2}and 19960 more differences\n/);
      assert.ok(error.message.length < 20_000);
      return true;
    });
  }));

Deno.test("a run_state.json of lists within lists is refused", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "trainer_state.json"), JSON.stringify({ global_step: 2, log_history: [] }));
    const deep = "[".repeat(10_000) + "]".repeat(10_000);
    await writeFile(join(folder, "run_state.json"), JSON.stringify(state).replace("{", `{"more": ${deep},`));
    await assert.rejects(readSavedRun(folder), {
      name: "UserError",
      message: /run_state\.json: cannot be read: it has more than 256 levels of JSON/,
    });
  }));
