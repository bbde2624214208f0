import assert from "node:assert/strict";
import {
  bootstrapP,
  estimates,
  mcnemar,
  meanEstimate,
  quantile,
  studentQuantile,
} from "../../lib/evaluation/statistics.ts";

const golden: Record<"mean" | "ratio", number[]> & { quantiles: number[][]; mcnemar: number[][] } = JSON
  .parse(
    await Deno.readTextFile("tests/golden/evaluation/statistics.json"),
  );
const PAIRS = 60;
const n = Float64Array.from({ length: PAIRS }, (_, i) => i);
const values = n.map((i) => Number((Math.sin(i * 1.7) + 0.3 * Math.cos(i * 0.37) + 0.15).toFixed(6)));
const weights = n.map((i) => 1 + i % 5);

const near = (found: number, expected: number, within: number) =>
  assert.ok(Math.abs(found - expected) <= within, `${found}, ${expected}`);

Deno.test("bootstrap intervals are scipy's but for the draws, and the same each time", () => {
  const columns = [{ values }, { values, weights }];
  const found = estimates(columns, PAIRS);
  for (const [i, [value, low, high]] of [golden.mean, golden.ratio].entries()) {
    near(found[i].value, value, 1e-12);
    // Of 2,000 draws the bounds are known to about a fortieth of the interval.
    near(found[i].low, low, (high - low) / 20);
    near(found[i].high, high, (high - low) / 20);
  }
  assert.deepEqual(estimates(columns, PAIRS), found);
});

Deno.test("quantiles are numpy's, and McNemar's exact p-values scipy's", () => {
  const sorted = values.slice().sort();
  for (const [share, expected] of golden.quantiles) near(quantile(sorted, share), expected, 1e-12);
  for (const [first, second, expected] of golden.mcnemar) {
    near(mcnemar(first, second) / expected, 1, 1e-9);
    assert.equal(mcnemar(second, first), mcnemar(first, second));
  }
});

Deno.test("a difference that no draw contradicts has the smallest p-value, and none has 1", () => {
  assert.equal(bootstrapP(new Float64Array(999).fill(1), 100), 0.002);
  assert.equal(bootstrapP(new Float64Array(999), 100), 1);
  assert.equal(bootstrapP(Float64Array.from({ length: 999 }, (_, i) => i < 99 ? -1 : 1), 100), 0.2);
  // Three pairs show no less than three tosses of a coin.
  assert.equal(bootstrapP(new Float64Array(999).fill(1), 3), 0.25);
  assert.equal(bootstrapP(new Float64Array(999).fill(1), 1), 1);
});

Deno.test("Student's quantiles are scipy's, and a single value has no interval", () => {
  // scipy.stats.t.ppf(0.975, df)
  const expected = {
    1: 12.706204736174694,
    2: 4.302652729749462,
    3: 3.1824463052837078,
    4: 2.7764451051977934,
  };
  const more = {
    6: 2.4469118511449786,
    7: 2.364624251592784,
    30: 2.0422724563012378,
    100: 1.9839715185235518,
  };
  for (const [df, t] of Object.entries({ ...expected, ...more })) near(studentQuantile(Number(df)), t, 1e-9);
  const { value, low, high } = meanEstimate([1, 2, 3]);
  assert.equal(value, 2);
  near(high! - 2, 4.302652729749462 / Math.sqrt(3), 1e-9);
  near(2 - low!, high! - 2, 1e-12);
  assert.deepEqual(meanEstimate([5]), { value: 5 });
});
