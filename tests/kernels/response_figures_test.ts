import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { responseFigures } from "../../lib/gpu/operations.ts";
import { randomPair } from "../random_pairs.ts";
import { assertClose, kernelTest, useGpu } from "./harness.ts";

useGpu();

const EOS = 7;

const SHAPES = [
  { pairs: 1, tokens: 2, spare: 0 },
  { pairs: 3, tokens: 20, spare: 2 },
  { pairs: 3, tokens: 20, spare: 1, withoutRejected: true },
  // More labels than a workgroup has threads.
  { pairs: 12, tokens: 400, spare: 1 },
  { pairs: 33, tokens: 60, spare: 31, withoutEos: true },
  // More responses than one direction of a grid has workgroups.
  { pairs: 32_800, tokens: 2, spare: 1 },
];

kernelTest(
  "a response's figures are the sums of its labels' and the probability of its first end token",
  SHAPES,
  async (kernels, { pairs, tokens, spare, withoutRejected, withoutEos }) => {
    const batch = pack(
      Array.from(
        { length: pairs },
        () => randomPair(kernels.uniform, kernels.integer(2, tokens), withoutRejected),
      ),
    );
    const labels = batch.targets.length;
    // Some responses with one end token, some with several, some with none.
    const targets = Uint32Array.from({ length: labels }, () => kernels.uniform() < 0.05 ? EOS : 1);
    // The first and a later one of the same thread.
    for (let at = 0; at < batch.labelsOfPair.length; at += 4) {
      const [from, to] = batch.labelsOfPair.subarray(at, at + 2);
      if (to - from > 64) targets[from] = targets[from + 64] = EOS;
    }
    const figures = kernels.values(4 * labels).map((value, i) =>
      [Math.abs(value), value, value < 0 ? 1 : 0][i % 4] ??
        kernels.uniform()
    );
    const responses = kernels.tensor([2 * (pairs + spare), 4]);
    await kernels.run([responseFigures(kernels.rows(pairs), {
      labelsOfPair: kernels.tensor([pairs + spare, 4], batch.labelsOfPair),
      targets: kernels.tensor([labels + spare], targets),
      figures: kernels.tensor([labels + spare, 4], figures),
      responses,
    }, withoutEos ? undefined : EOS)]);

    const expected: number[] = [];
    for (let response = 0; response < 2 * pairs; response++) {
      const [from, to] = batch.labelsOfPair.subarray(2 * response, 2 * response + 2);
      const sum = (which: number) => {
        let all = 0;
        for (let label = from; label < to; label++) all += figures[4 * label + which];
        return all;
      };
      const end = withoutEos ? -1 : targets.subarray(from, to).indexOf(EOS);
      expected.push(sum(0), sum(1), sum(2), end < 0 ? -1 : figures[4 * (from + end) + 3]);
    }
    // Sums of up to a few hundred terms of about 1.
    await kernels.compare(responses, expected, { tolerance: 1e-6 });
    const found = await kernels.read(responses, expected.length);
    const column = (of: ArrayLike<number>, which: number) => Array.from(of).filter((_, i) => i % 4 === which);
    assertClose(
      column(found, 1),
      column(expected, 1),
      { tolerance: 1e-6, scale: Math.sqrt(tokens) * 10 },
      "logits",
    );
    assert.deepEqual(column(found, 2), column(expected, 2), "counts");
    assert.deepEqual(column(found, 3), column(expected, 3), "probabilities");
  },
);
