import assert from "node:assert/strict";
import { UserError } from "../../lib/errors.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { probeLoss } from "../../lib/gpu/loss_probe.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { checkForm, checkFunction, checkWgsl } from "../../lib/losses/check.ts";
import type { FunctionLoss, Loss, ResponseSums, WgslLoss } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";

const mean = ({ sum, labels }: ResponseSums) => sum / labels;

const simper: FunctionLoss["of"] = (chosen, rejected) => {
  const [c, r] = [Math.exp(mean(chosen)), Math.exp(mean(rejected))];
  return { value: r - c, dChosen: -c / chosen.labels, dRejected: r / rejected.labels };
};
/** Of sums, as DPO's without its reference, where nearly all probes are far in one of its ends. */
const logistic: FunctionLoss["of"] = (chosen, rejected) => {
  const x = 0.1 * (chosen.sum - rejected.sum);
  const p = 1 / (1 + Math.exp(x));
  return { value: Math.log1p(Math.exp(-x)), dChosen: -0.1 * p, dRejected: 0.1 * p };
};
/** With a kink at a probe. */
const hinge: FunctionLoss["of"] = (chosen, rejected) => {
  const x = 0.5 - (mean(chosen) - mean(rejected));
  const is = x > 0 ? 1 : 0;
  return { value: Math.max(0, x), dChosen: -is / chosen.labels, dRejected: is / rejected.labels };
};
const atKink: FunctionLoss["of"] = (chosen) => {
  const x = mean(chosen) - -12.53 / 7;
  return { value: Math.abs(x), dChosen: (x > 0 ? 1 : -1) / chosen.labels, dRejected: 0 };
};

for (const [name, of] of Object.entries({ simper, logistic, hinge, atKink })) {
  Deno.test(`the derivatives of ${name} are found right`, () => void checkFunction({ name, of }));
}

const refused = (loss: Loss, check: (loss: never) => unknown, expected: RegExp) =>
  assert.throws(() => check(loss as never), (error) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.code, "LOSS_INVALID");
    assert.match(error.message, expected);
    return true;
  });

Deno.test("a derivative that is off is refused with both numbers", () => {
  const wrong = (dChosen: number, dRejected: number): FunctionLoss => ({
    name: "wrong",
    of: (chosen, rejected) => {
      const found = simper(chosen, rejected);
      return { ...found, dChosen: found.dChosen * dChosen, dRejected: found.dRejected * dRejected };
    },
  });
  // exp(-12.53 / 7) / 7 is 0.023852.
  refused(
    wrong(1.0001, 1),
    checkFunction,
    /^loss wrong: dChosen: expected -0\.02385\d*, the slope of its values, found -0\.02385\d*, where chosen is -12.53 over 7 labels/,
  );
  refused(wrong(1, -1), checkFunction, /dRejected: expected 0\.\d+, the slope of its values, found -0\.\d+/);
  refused({ name: "slope", of: (c) => ({ ...atKink(c, c), dChosen: 0.2 }) }, checkFunction, /dChosen/);
});

Deno.test("values that are no finite numbers are refused", () => {
  refused(
    { name: "nan", of: () => ({ value: NaN, dChosen: 0, dRejected: 0 }) },
    checkFunction,
    /^loss nan: on trial: expected finite numbers .* found value: NaN, dChosen: 0, dRejected: 0/,
  );
  refused({ name: "none", of: (() => undefined) as never }, checkFunction, /found nothing/);
});

Deno.test("a loss that looks only at chosen is given nothing of rejected", () => {
  checkFunction({
    name: "chosen",
    usesRejected: false,
    of: (chosen, rejected) => {
      assert.deepEqual(rejected, { sum: 0, labels: 0, reference: 0 });
      return { value: -mean(chosen), dChosen: -1 / chosen.labels, dRejected: 0 };
    },
  });
});

Deno.test("what is no loss is refused", () => {
  refused({ name: "simper", of: simper }, checkForm, /simper is the name of a loss that is there/);
  refused({ name: "my loss", of: simper }, checkForm, /name: expected/);
  refused({ name: "x" } as never, checkForm, /expected either wgsl, a text, or of, a function/);
  refused({ name: "x", wgsl: "fn other() {}" }, checkForm, /expected fn preference_loss/);
  checkForm(losses.sft);
});

const ORPO_LIKE = `fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let x = chosen.sum / chosen.labels - rejected.sum / rejected.labels;
  let e = exp_accurate(-abs(x));
  let p = select(1.0, e, x > 0.0) / (1.0 + e);
  return Loss(max(-x, 0.0) + log(1.0 + e), -p / chosen.labels, p / rejected.labels);
}`;

Deno.test("losses in WGSL are checked as a kernel computes them", async () => {
  const gpu = await openGpu();
  try {
    const pipelines = new Pipelines(gpu);
    const check = (loss: WgslLoss) => checkWgsl(loss, (sums) => probeLoss(gpu, pipelines, loss, sums));
    for (const loss of [losses.simper, losses.sft, { name: "logistic", wgsl: ORPO_LIKE }]) await check(loss);
    const off = {
      name: "off",
      wgsl: losses.simper.wgsl.replace("-c / chosen.labels", "-1.01 * c / chosen.labels"),
    };
    assert.notEqual(off.wgsl, losses.simper.wgsl);
    await assert.rejects(
      check(off),
      /^UserError: loss off: d_chosen: expected -0\.\d+, the slope of its values, found -0\.\d+/,
    );
    const broken = { name: "broken", wgsl: "fn preference_loss(chosen: Response) -> Loss { return 1; }" };
    await assert.rejects(check(broken), /^UserError: loss broken: kernel loss_probe does not compile/);
  } finally {
    gpu.destroy();
  }
});
