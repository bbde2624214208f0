import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { preferenceLoss } from "../../lib/gpu/operations.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { LOSS_DEFAULTS } from "../../lib/losses/definition.ts";
import { losses, lossOf } from "../../lib/losses/losses.ts";
import { assertClose, kernelTest, useGpu } from "./harness.ts";
import { pairOf, randomPair } from "../random_pairs.ts";
import * as references from "../reference/preference_loss.ts";

useGpu();

const { simper, sft } = losses;

interface Shape {
  pairs: number;
  tokens: number;
  spare: number;
  /** Tokens before two responses of the same length; by default parts are drawn. */
  prefix?: number;
}

const SHAPES: Shape[] = [
  { pairs: 1, tokens: 2, spare: 0 },
  { pairs: 3, tokens: 20, spare: 2 },
  { pairs: 2, tokens: 400, spare: 1 },
  { pairs: 33, tokens: 60, spare: 31 },
  // More labels, of chosen as of rejected, than a workgroup has threads.
  { pairs: 2, tokens: 300, spare: 0, prefix: 3 },
  // More pairs than one direction of a grid has workgroups.
  { pairs: 65_600, tokens: 2, spare: 1 },
];

for (const loss of [simper, sft]) {
  const reference = references[loss.name as "simper" | "sft"];

  kernelTest(`${loss.name}: value and derivative by every label`, SHAPES, async (kernels, shape) => {
    const { pairs, spare, tokens, prefix } = shape;
    const batch = pack(
      Array.from({ length: pairs }, () => {
        if (prefix === undefined) {
          return randomPair(kernels.uniform, kernels.integer(2, tokens), !loss.usesRejected);
        }
        const own = Math.floor((tokens - prefix) / 2);
        return pairOf(kernels.uniform, {
          prefix,
          chosen: own,
          rejected: loss.usesRejected ? own : undefined,
        });
      }),
    );
    const labels = batch.targets.length;
    // As of a language model: between about -4 and 0.
    const logps = kernels.values(labels).map((value) => -Math.abs(value));
    // One over the pairs of an optimizer step, of which these are a part.
    const scale = 1 / (pairs + 3);
    const results = kernels.tensor([pairs + spare, 4]);
    const weights = kernels.tensor([labels + spare]);
    await kernels.run(preferenceLoss(kernels.rows(pairs, { scale }), {
      labelsOfPair: kernels.tensor([pairs + spare, 4], batch.labelsOfPair),
      references: kernels.tensor([pairs + spare, 4], batch.references),
      logps: kernels.tensor([labels + spare], logps),
      targets: kernels.tensor([labels + spare], batch.targets),
      weights,
      results,
    }, wgslOf(loss)));

    const expectedResults: number[] = [];
    const expectedWeights = new Float64Array(labels);
    for (let pair = 0; pair < pairs; pair++) {
      const [from, to, rejectedFrom, rejectedTo] = batch.labelsOfPair.subarray(4 * pair, 4 * pair + 4);
      const chosen = [...logps.subarray(from, to)];
      const rejected = [...logps.subarray(rejectedFrom, rejectedTo)];
      const { value, dChosen, dRejected } = reference(chosen, rejected);
      const sum = (values: number[]) => values.reduce((sum, value) => sum + value, 0);
      expectedResults.push(value, sum(chosen), sum(rejected), 0);
      expectedWeights.fill(dChosen * scale, from, to);
      expectedWeights.fill(dRejected * scale, rejectedFrom, rejectedTo);
    }
    // Sums of up to a few hundred terms of one sign. Values and sums are compared on their own scales: a
    // value is a mean of log-probabilities or a difference of two probabilities.
    const tolerance = 1e-6;
    await kernels.compare(results, expectedResults, { tolerance });
    const values = await kernels.read(results, expectedResults.length);
    const column = (of: ArrayLike<number>) => Array.from(of).filter((_, i) => i % 4 === 0);
    assertClose(column(values), column(expectedResults), { tolerance, scale: 1 }, "values");
    await kernels.compare(weights, expectedWeights, { tolerance: 1e-6 });
  });
}

/** A pair of responses of two labels each, and which label's log-probability is spoiled by what. */
const SPOILED = [0, 1, 2, 3].flatMap((label) =>
  [-Infinity, NaN].map((value) => ({ label, value: String(value) }))
);

kernelTest(
  "one log-probability that is not finite, of chosen or of rejected alone, gives its pair's labels a gradient of NaN",
  SPOILED,
  async (kernels, { label, value }) => {
    const response = (first: number) => ({ ids: [1, first, 5], promptLength: 1 });
    const pair = { chosen: response(2), rejected: response(3), truncated: false as const, where: "pair" };
    const batch = pack([pair, pair]);
    const logps = Float32Array.of(-1, -2, -3, -4, -1, -2, -3, -4);
    logps[label] = Number(value);
    const weights = kernels.tensor([8]);
    const results = kernels.tensor([2, 4]);
    await kernels.run(preferenceLoss(kernels.rows(2, { scale: 0.5 }), {
      labelsOfPair: kernels.tensor([2, 4], batch.labelsOfPair),
      references: kernels.tensor([2, 4], batch.references),
      logps: kernels.tensor([8], logps),
      targets: kernels.tensor([8], batch.targets),
      weights,
      results,
    }, wgslOf(simper)));
    const found = [...await kernels.read(weights, 8)];
    assert.ok(found.slice(0, 4).every(Number.isNaN), `${found}`);
    assert.ok(found.slice(4).every(Number.isFinite), `${found}`);
    // What the host finds the pair by.
    const sums = [...await kernels.read(results, 8)];
    assert.equal(Number.isFinite(sums[1 + Math.floor(label / 2)]), false);
    assert.ok(sums.slice(4).every(Number.isFinite), `${sums}`);
  },
);

/** Chosen whose end token is its last label, an earlier one, or none. */
const ENDS = [{ targets: [5, 6, 9] }, { targets: [5, 9, 9] }, { targets: [5, 6, 7] }];

kernelTest(
  "REFA's term is the probability of chosen's first end token, and only that token's label has its gradient",
  ENDS,
  async (kernels, { targets }) => {
    const loss = lossOf({ ...LOSS_DEFAULTS, lossType: "simper", refaLambda: 0.5 });
    const logps = Float32Array.of(-1, -2, -0.5, -3, -4);
    const found = (wgsl: string) => {
      const t = { weights: kernels.tensor([5]), results: kernels.tensor([1, 4]) };
      return {
        ...t,
        calls: preferenceLoss(
          kernels.rows(1, { scale: 0.25 }),
          {
            labelsOfPair: kernels.tensor([1, 4], Uint32Array.of(0, 3, 3, 5)),
            references: kernels.tensor([1, 4], new Float32Array(4)),
            logps: kernels.tensor([5], logps),
            // Of rejected the end token does not matter.
            targets: kernels.tensor([5], Uint32Array.of(...targets, 1, 9)),
            ...t,
          },
          wgsl,
          9,
        ),
      };
    };
    const [without, beside] = [found(wgslOf(simper)), found(wgslOf(loss))];
    await kernels.run([...without.calls, ...beside.calls]);
    const [a, b] = [await kernels.read(without.weights, 5), await kernels.read(beside.weights, 5)];
    const [value] = await kernels.read(without.results, 1);
    const [valueBeside] = await kernels.read(beside.results, 1);
    const end = targets.indexOf(9);
    const term = end < 0 ? 0 : 0.5 * Math.exp(logps[end]);
    assertClose([valueBeside - value], [term], { tolerance: 1e-6, scale: 1 }, "value");
    const expected = [0, 1, 2, 3, 4].map((label) => label === end ? 0.25 * term : 0);
    assertClose(
      [...b].map((weight, i) => weight - a[i]),
      expected,
      { tolerance: 1e-6, scale: 1 },
      "derivatives",
    );
  },
);

Deno.test("a loss of one's own with a built-in one's text is the same kernel", () => {
  assert.equal(wgslOf({ name: "copy", wgsl: simper.wgsl }), wgslOf(simper));
  // The constants of another loss, or another's beside it, are no part of it.
  assert.equal(wgslOf(simper), wgslOf(lossOf({ ...LOSS_DEFAULTS, lossType: "simper", beta: 7 })));
});
