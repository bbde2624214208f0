/**
 * Values, rewards, metrics and derivatives of every loss beside those of TRL's trainers; see
 * tests/golden/losses/trl_losses.py.
 */
import assert from "node:assert/strict";
import { defineConfig } from "../../lib/config/parse.ts";
import type { RunKeys } from "../../lib/config/schema.ts";
import { preferenceLoss } from "../../lib/gpu/operations.ts";
import { type Loss, usesBatch, wgslOf } from "../../lib/losses/loss.ts";
import { LOSS_NAMES, lossOf, namesOf } from "../../lib/losses/losses.ts";
import { type Metrics, type PairResult, summarize } from "../../lib/training/metrics.ts";
import { type KernelCase, kernelTest, useGpu } from "../kernels/harness.ts";

useGpu();

interface Golden {
  responses: { logps: number[]; squares: number[]; ids: number[] }[];
  cases: {
    keys: Partial<RunKeys>;
    pairs: {
      chosen: [response: number, reference: number];
      rejected: [number, number];
      desirable?: boolean;
    }[];
    loss: number;
    metrics: Record<string, number>;
    /** One a response, or one a label. */
    dChosen: (number | number[])[];
    dRejected: (number | number[])[] | null;
  }[];
}

const { responses, cases }: Golden = JSON.parse(await Deno.readTextFile("tests/golden/losses/trl.json"));

/** Figures that are of another thing here. */
const OTHERS = {
  sft: ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"],
  // Means over tokens; ours are sums.
  ...Object.fromEntries(
    ["simpo", "alphapo", "orpo"].map((name) => [name, ["logps/chosen", "logps/rejected"]]),
  ),
} as Record<string, string[]>;

const near = (found: number | undefined, expected: number, what: string) =>
  assert.ok(
    found !== undefined && Math.abs(found - expected) <= 1e-5 * Math.max(1, Math.abs(expected)),
    `${what}: expected ${expected}, found ${found}`,
  );

const NO_FIGURES = { entropy: 0, logits: 0, correct: 0 };

/** Losses of a pair alone are run together, those of a micro-batch as they are. */
const RUNS = [
  ...Map.groupBy(cases, ({ keys, pairs }) => JSON.stringify([keys, pairs.length > 1 && pairs])).values(),
];

kernelTest(
  "a loss has the value, the rewards and the derivatives that TRL's trainer has",
  RUNS.map((run, at) => ({ at, keys: run[0].keys })),
  async (kernels, { at, keys }) => {
    const loss = lossOf(defineConfig({ model_name_or_path: "model", ...keys }));
    const pairs = RUNS[at].flatMap(({ pairs }) => pairs);
    const { results, weights, labelsOfPair } = await run(kernels, loss, pairs, 1 / RUNS[at][0].pairs.length);
    let first = 0;
    for (const one of RUNS[at]) {
      const indices = one.pairs.map((_, p) => first + p);
      checkFigures(one, loss, indices.map((p) => [...results.subarray(4 * p, 4 * p + 4)]));
      for (const [side, all] of [one.dChosen, one.dRejected].entries()) {
        // The other responses of judged ones have no gradient.
        for (const [i, derivative] of (all ?? one.pairs.map(() => 0)).entries()) {
          const [from, to] = labelsOfPair.subarray(4 * indices[i] + 2 * side);
          for (let label = from; label < to; label++) {
            const each = typeof derivative === "number" ? derivative : derivative[label - from];
            near(
              weights[label],
              each,
              `derivative by label ${label - from} of response ${side} of pair ${i}`,
            );
          }
        }
      }
      first += one.pairs.length;
    }
  },
);

/** @param results of the kernel, of each pair. */
function checkFigures(
  { keys, pairs, loss: expected, metrics }: Golden["cases"][number],
  loss: Loss,
  results: number[][],
) {
  const found = summarize(
    pairs.map(({ chosen, rejected, desirable }, p): PairResult => ({
      ...{ loss: results[p][0], chosen: results[p][1], rejected: results[p][2], kl: results[p][3] },
      ...{ chosenReference: chosen[1], rejectedReference: rejected[1], desirable },
      chosenLabels: responses[chosen[0]].logps.length,
      rejectedLabels: responses[rejected[0]].logps.length,
      ...{ chosenFigures: NO_FIGURES, rejectedFigures: NO_FIGURES },
    })),
    loss,
  );
  near(found.loss, expected, "loss");
  const [name, ...others] = namesOf(keys.loss_type!);
  for (const [metric, value] of Object.entries(metrics)) {
    // Where a likelihood has no weight, TRL logs 0.
    if (metric === "nll_loss" && value === 0) assert.equal(found.nll_loss, undefined);
    else if (others.length > 0 || !OTHERS[name]?.includes(metric)) {
      near(found[metric as keyof Metrics], value, metric);
    }
  }
}

async function run(
  kernels: KernelCase,
  loss: Loss,
  pairs: Golden["cases"][number]["pairs"],
  scale: number,
) {
  const all = pairs.flatMap(({ chosen, rejected }) => [responses[chosen[0]], responses[rejected[0]]]);
  const ends = all.map((_, i) => all.slice(0, i + 1).reduce((sum, { logps }) => sum + logps.length, 0));
  const labelsOfPair = Uint32Array.from(all.flatMap(({ logps }, i) => [ends[i] - logps.length, ends[i]]));
  const labels = ends.at(-1)!;
  const column = (of: (response: Golden["responses"][number]) => number[]) =>
    Float32Array.from(all.flatMap(of));
  const [results, weights] = [kernels.tensor([pairs.length, 4]), kernels.tensor([labels])];
  const wgsl = wgslOf(loss);
  await kernels.run(preferenceLoss(kernels.rows(pairs.length, { scale }), {
    labelsOfPair: kernels.tensor([pairs.length, 4], labelsOfPair),
    references: kernels.tensor(
      [pairs.length, 4],
      Float32Array.from(
        pairs.flatMap(({ chosen, rejected, desirable }) => [chosen[1], rejected[1], desirable ? 1 : 0, 0]),
      ),
    ),
    logps: kernels.tensor([labels], column(({ logps }) => logps)),
    targets: kernels.tensor([labels], new Uint32Array(labels)),
    squares: kernels.tensor([labels], column(({ squares }) => squares)),
    ...{ weights, results },
    ...usesBatch(wgsl) && { sums: kernels.tensor([pairs.length, 2]) },
  }, wgsl));
  return {
    results: await kernels.read(results, 4 * pairs.length),
    weights: await kernels.read(weights, labels),
    labelsOfPair,
  };
}

Deno.test("every loss that TRL has is compared with it", () => {
  const compared = new Set(cases.flatMap(({ keys }) => namesOf(keys.loss_type!)));
  assert.deepEqual(LOSS_NAMES.filter((name) => !compared.has(name)), ["simper"]);
});
