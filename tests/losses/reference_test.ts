/** Every loss of pairs, as a kernel computes it, beside its paper's formula in float64. */
import assert from "node:assert/strict";
import { openGpu } from "../../lib/gpu/device.ts";
import { probeLoss } from "../../lib/gpu/loss_probe.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { checkWgsl } from "../../lib/losses/check.ts";
import { LOSS_DEFAULTS, type ResponseSums } from "../../lib/losses/definition.ts";
import { LOSS_NAMES, type LossName, lossOf } from "../../lib/losses/losses.ts";
import { normal, uniform } from "../../lib/random.ts";
import { freshSeed } from "../kernels/harness.ts";
import { derivatives, REFERENCES } from "../reference/losses.ts";

const gpu = await openGpu();
globalThis.addEventListener("unload", () => gpu.destroy());
const pipelines = new Pipelines(gpu);

/** Those of a pair alone. */
const NAMES = LOSS_NAMES.filter((name) =>
  !["aot", "aot_unpaired", "kto", "apo_zero_unpaired"].includes(name)
);

const lossWith = (lossType: LossName) =>
  lossOf({
    ...LOSS_DEFAULTS,
    lossType,
    labelSmoothing: ["robust", "exo_pair"].includes(lossType) ? 0.2 : 0,
    alpha: lossType === "alphapo" ? 0.3 : 0,
  });

Deno.test("values and derivatives are those of the papers' formulas", async () => {
  assert.deepEqual(Object.keys(REFERENCES).sort(), [...NAMES].sort());
  const seed = freshSeed();
  const [next, any] = [normal(seed), uniform(seed, 1)];
  // Short and long ones, likely and unlikely, near their reference and far from it.
  const response = (): ResponseSums => {
    const labels = 1 + Math.floor(any() * (any() < 0.5 ? 8 : 900));
    const sum = Math.fround(-labels * Math.exp(next() - 0.5));
    return { sum, labels, reference: Math.fround(sum + next() * Math.sqrt(labels) * 3) };
  };
  const pairs = Array.from({ length: 200 }, () => [response(), response()] as const);
  const given = Float32Array.from(
    pairs.flat().flatMap(({ sum, labels, reference }) => [sum, labels, reference, 0]),
  );
  for (const name of NAMES) {
    const found = await probeLoss(gpu, pipelines, lossWith(name), given);
    pairs.forEach(([c, r], i) => {
      const expected = [REFERENCES[name](c, r), ...derivatives(REFERENCES[name], c, r)];
      expected.forEach((value, k) => {
        // At a kink differences lie between both slopes; a difference of sums of thousands has lost some digits.
        if (k > 0 && (name === "hinge" || name === "slic") && Math.abs(REFERENCES[name](c, r)) < 1e-2) return;
        // Near the bottom of a square its slope is a difference of two numbers of about 10.
        const least = k === 0 ? 1e-2 : name === "sppo_hard" || name === "ipo" ? 1e-1 : 1e-4;
        const tolerance = 1e-4 * Math.max(Math.abs(value), least);
        const off = Math.abs(found[4 * i + k] - value);
        assert.ok(
          off <= tolerance,
          `${name}, seed ${seed}, pair ${i}, ${k}: expected ${value}, found ${found[4 * i + k]}`,
        );
      });
    });
  }
});

Deno.test("derivatives are the finite differences of what the kernel computes", async () => {
  // DiscoPOP bends within the steps of float32's differences; the formula's own are above.
  for (const name of NAMES.filter((name) => name !== "discopop")) {
    const loss = lossWith(name);
    await checkWgsl(loss, (sums) => probeLoss(gpu, pipelines, loss, sums));
  }
});

Deno.test("a list adds up its losses, each with its weight", async () => {
  const loss = lossOf({
    ...LOSS_DEFAULTS,
    lossType: ["simper", "sigmoid", "cpo"],
    lossWeights: [1, 0.5, 2],
    chosenAnchor: 0.25,
  });
  const [c, r] = [{ sum: -9, labels: 6, reference: -8 }, { sum: -14, labels: 8, reference: -15.5 }];
  const found = await probeLoss(
    gpu,
    pipelines,
    loss,
    Float32Array.of(...[-9, 6, -8, 0], ...[-14, 8, -15.5, 0]),
  );
  const of: typeof REFERENCES[string] = (c, r) =>
    REFERENCES.simper(c, r) + 0.5 * REFERENCES.sigmoid(c, r) + 2 * REFERENCES.cpo(c, r) +
    0.25 * REFERENCES.sft(c, r);
  for (const [i, value] of [of(c, r), ...derivatives(of, c, r)].entries()) {
    assert.ok(Math.abs(found[i] - value) < 1e-5, `${i}: expected ${value}, found ${found[i]}`);
  }
});
