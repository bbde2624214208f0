import assert from "node:assert/strict";
import { join } from "node:path";
import { type Annotation, readAnnotations, readGamed, winRates } from "../../lib/evaluation/judge.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

interface Case {
  lengths: [number, number][];
  preference: number[];
  gamed: [index: number, preference: number, delta: number, difficulty: number][];
  expected: Record<string, Record<string, number>>;
}

const cases: Case[] = JSON.parse(await Deno.readTextFile("tests/golden/evaluation/win_rates.json"));

function annotationsOf({ lengths, preference }: Case): Annotation[] {
  return lengths.map(([one, two], i) => ({
    // A sign outside of the basic plane is one character to Python.
    output_1: "x".repeat(one - 1) + "𝄞",
    output_2: "x".repeat(two),
    generator_1: "base",
    generator_2: "model",
    preference: preference[i],
  }));
}

for (const [i, one] of cases.entries()) {
  Deno.test(`win rates of annotations ${i} are alpaca_eval's`, () => {
    const gamed = one.gamed.map(([index, preference, std_delta_len, instruction_difficulty]) => ({
      ...{ index, preference, std_delta_len, instruction_difficulty },
    }));
    for (const rows of [gamed, undefined]) {
      const { glm, figures } = winRates(annotationsOf(one), rows);
      for (const [name, value] of Object.entries(one.expected[glm])) {
        const found = figures[name as keyof typeof figures];
        assert.ok(Math.abs(found - value) < 1e-9, `${glm} ${name}: ${found}, ${value}`);
      }
    }
  });
}

Deno.test("annotations without a verdict count for nothing, and a model against itself wins half", () => {
  const annotations = annotationsOf(cases[0]);
  const { figures: { n_total, win_rate } } = winRates([...annotations, {
    ...annotations[0],
    preference: null,
  }]);
  assert.equal(n_total, annotations.length);
  assert.equal(win_rate.toFixed(9), cases[0].expected.length_controlled_v1.win_rate.toFixed(9));
  const { figures: itself } = winRates(annotations.map((one) => ({ ...one, generator_2: "base" })));
  assert.equal(itself.length_controlled_winrate, 50);
});

Deno.test("what is wrong with files of annotations is told with its place", () =>
  withTemporaryFolder(async (folder) => {
    const file = join(folder, "annotations.json");
    const [first, second] = annotationsOf(cases[0]);
    const told: [unknown, RegExp][] = [
      [{}, /expected a list of two annotations or more, found an object/],
      [
        [first, { ...second, preference: 3 }],
        /annotation 1: preference: expected 0, 1 to 2, or null, found 3/,
      ],
      [[first, { ...second, output_2: 1 }], /annotation 1: output_2: expected text, found 1/],
      [[first, { ...second, generator_2: "x" }], /expected one generator_2, found "model", "x"/],
      [[{ ...first, preference: null }, second], /expected two preferences or more/],
    ];
    for (const [value, says] of told) {
      await Deno.writeTextFile(file, JSON.stringify(value));
      await assert.rejects(() => readAnnotations(file), says);
    }
    await Deno.writeTextFile(file, "[");
    await assert.rejects(() => readAnnotations(file), /cannot be read/);
    const csv = join(folder, "gamed.csv");
    const head = "model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline";
    await Deno.writeTextFile(csv, `${head}\nx,0,0.25,-1.5,0.75,False\n`);
    assert.deepEqual(await readGamed(csv), [
      { index: 0, preference: 0.25, std_delta_len: -1.5, instruction_difficulty: 0.75 },
    ]);
    await Deno.writeTextFile(csv, `${head}\nx,0,,-1.5,0.75,False\n`);
    await assert.rejects(() => readGamed(csv), /preference: expected a number/);
    const gamed = [{ index: 0, preference: 0.5, std_delta_len: 0, instruction_difficulty: 0 }];
    assert.throws(
      () => winRates([first, second], gamed),
      /annotation 1: its instruction 1 is not in the rows/,
    );
  }));
