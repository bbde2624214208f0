import assert from "node:assert/strict";
import { parseConfig } from "../../lib/config/parse.ts";
import { configYaml } from "../../lib/config/write.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { LOSS_NAMES, lossOf } from "../../lib/losses/losses.ts";

const BASE = "model_name_or_path: model\ndataset_mixer: {data/a.jsonl: 1}\n";
const parsed = (lines: string) => parseConfig(BASE + lines, "run.yaml");

const refused = (lines: string, ...expected: RegExp[]) =>
  assert.throws(() => parsed(lines), (error: Error) => {
    const found = error.message.split("\n");
    assert.equal(found.length, expected.length, error.message);
    expected.forEach((pattern, i) => assert.match(found[i], pattern));
    return true;
  });

Deno.test("a loss is a name or a list, and one of a list alone is that loss", () => {
  assert.equal(parsed("loss_type: [sigmoid]\n").config.lossType, "sigmoid");
  const { config } = parsed("loss_type: [sigmoid, bco_pair, sft]\nloss_weights: [0.8, 0.2, 1]\n");
  assert.deepEqual([config.lossType, config.lossWeights], [["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1]]);
  assert.equal(lossOf(config).name, "sigmoid+bco_pair+sft");
  for (const wrong of ["[]", "[sigmoid, nothing]", "[sigmoid, sigmoid]", "{sigmoid: 1}"]) {
    refused(
      `loss_type: ${wrong}\n`,
      /loss_type: expected simper or sft or sigmoid.*or a list of them, found/,
    );
  }
});

Deno.test("weights of losses have to match their number", () => {
  refused(
    "loss_type: [sigmoid, sft]\nloss_weights: [1]\n",
    /^run.yaml:4:15: loss_weights: .*each of the 2 losses.*found 1$/,
  );
  refused(
    "loss_weights: [1, 2]\n",
    /loss_weights: expected a weight for each of the 1 losses .*\(simper\), found 2/,
  );
  refused("loss_type: [sigmoid, sft]\nloss_weights: 1\n", /loss_weights: expected a list of numbers/);
});

Deno.test("a key that the loss does not read is an error that names those that do", () => {
  refused(
    "loss_type: orpo\nsimpo_gamma: 0.5\n",
    /^run.yaml:4:14: simpo_gamma: loss_type: orpo does not read it: remove it; simpo, alphapo do$/,
  );
  refused("loss_type: sft\nbeta: 0.1\n", /beta: loss_type: sft does not read it/);
  refused(
    "label_smoothing: 0.1\nuse_weighting: true\n",
    /label_smoothing: loss_type: simper/,
    /use_weighting: loss_type: simper/,
  );
  refused(
    "loss_type: sigmoid\nlabel_smoothing: 0.1\n",
    /sigmoid does not read it: remove it; robust, exo_pair/,
  );
  refused("loss_type: simpo\ndesirable_weight: 2\n", /kto, apo_zero_unpaired do$/);
  // In a list one reader is enough, but for what changes all.
  parsed("loss_type: [sft, simpo]\nsimpo_gamma: 1\n");
  parsed("loss_type: [sigmoid, sft]\nuse_weighting: true\nf_divergence_type: js_divergence\n");
  refused(
    "loss_type: [sigmoid, bco_pair]\nf_divergence_type: forward_kl\n",
    /f_divergence_type: loss_type: bco_pair does not read it/,
  );
  refused("loss_type: aot\nuse_weighting: true\n", /use_weighting: loss_type: aot does not/);
  refused("loss_type: [sigmoid, sft]\nld_alpha: 0.5\n", /ld_alpha: loss_type: sft does not/);
  refused(
    "loss_type: [sigmoid, simper]\nreference_free: true\n",
    /reference_free: loss_type: simper does not/,
  );
});

Deno.test("what asks for nothing may stand under any loss, and the published keys under SimPER are a notice", () => {
  parsed(
    "label_smoothing: 0\nuse_weighting: false\nld_alpha: null\nf_divergence_type: reverse_kl\nsft_weight: 0\n",
  );
  const { ignored } = parsed("beta: 2\ngamma_beta_ratio: 0.5\n");
  assert.deepEqual(ignored, [
    "beta: ignored: simper has no such parameter, which is trained without a loss_type: DPO is sigmoid, SimPO simpo",
    "gamma_beta_ratio: ignored: simper has no such parameter",
  ]);
  assert.deepEqual(parsed("beta: 2\nloss_type: simper\n").ignored, [
    "beta: ignored: simper has no such parameter",
  ]);
  // As TRL writes its defaults out.
  parsed("loss_type: sigmoid\nf_alpha_divergence_coef: 0.5\n");
  // A whole number of WGSL has 64 bits at most.
  assert.match(wgslOf(lossOf(parsed("refa_lambda: 1e20\n").config)), /REFA_LAMBDA: f32 = 1\d{20}\.0;/);
  refused("loss_type: alphapo\nalpha: 1e39\n", /alpha: expected a number, 0 or from -3.4e38 to 3.4e38/);
  refused("loss_type: [simper, sft]\nloss_weights: [1, 1e39]\n", /loss_weights: expected a list of numbers/);
});

Deno.test("values that a loss cannot take are refused", () => {
  for (const value of ["0", "1e-46", "1e-40", "0.99999999"]) {
    refused(
      `loss_type: exo_pair\nlabel_smoothing: ${value}\n`,
      new RegExp(
        `label_smoothing above 0 with exo_pair, and below 1 .*float32\\), found ${value}: its paper`,
      ),
    );
  }
  parsed("loss_type: exo_pair\nlabel_smoothing: 0.999999\n");
  refused("loss_type: exo_pair\n", /label_smoothing above 0 with exo_pair.*, found 0:/);
  refused(
    "loss_type: simpo\nbeta: 10\ngamma_beta_ratio: 1e38\n",
    /gamma_beta_ratio times beta up to 3\.4e38 .*found 1e\+38 times 10$/,
  );
  parsed("beta: 10\ngamma_beta_ratio: 1e38\n");
  refused("loss_type: robust\nlabel_smoothing: 0.5\n", /below 0.5 \(as a float32\) with robust, found 0.5/);
  refused(
    "loss_type: simpo\nsimpo_gamma: 0.3\ngamma_beta_ratio: 0.2\n",
    /gamma_beta_ratio: simpo_gamma is given too/,
  );
  refused("loss_type: sigmoid\nbeta: 0\n", /beta: expected a number from 1.2e-38/);
  refused("loss_type: [kto, sigmoid]\n", /kto reads single responses that were judged, and sigmoid pairs/);
  refused(
    "loss_type: sigmoid\nf_alpha_divergence_coef: 0.3\n",
    /is read where f_divergence_type is alpha_divergence, found reverse_kl/,
  );
});

Deno.test("values that a loss takes and that are hardly meant are told of, and those that train nothing are refused", () => {
  refused("loss_type: robust\nlabel_smoothing: 0.4999999999\n", /below 0.5 \(as a float32\) with robust/);
  refused(
    "loss_type: [sigmoid, sft]\nloss_weights: [0, 0]\n",
    /loss_weights: expected a weight that is not 0/,
  );
  const told = (yaml: string) => parsed(yaml).ignored;
  assert.deepEqual(told("loss_type: [sigmoid, sft, bco_pair]\nloss_weights: [1, 0, -0.5]\n"), [
    "loss_weights: sft has 0, so that it trains nothing",
    "loss_weights: bco_pair has -0.5, so that it is made large, not small",
  ]);
  assert.match(
    told("loss_type: robust\nlabel_smoothing: 0.4999\n").join(),
    /gradients of robust 5\.00e\+3 times as large/,
  );
  assert.deepEqual(told("loss_type: robust\nlabel_smoothing: 0.4\n"), []);
});

Deno.test("SimPO's margin is the ratio times beta where that is given", () => {
  const { wgsl } = lossOf(parsed("loss_type: simpo\nbeta: 2\ngamma_beta_ratio: 0.25\n").config);
  assert.match(wgsl, /SIMPO_GAMMA: f32 = 0.5;/);
  assert.match(wgsl, /CPO_ALPHA: f32 = 0.0;/);
  assert.match(lossOf(parsed("loss_type: cpo\n").config).wgsl, /CPO_ALPHA: f32 = 1.0;/);
});

Deno.test("a configuration of any loss, written down, is read as the same", () => {
  for (const name of LOSS_NAMES) {
    const { config } = parsed(`loss_type: ${name}\n${name === "exo_pair" ? "label_smoothing: 0.001\n" : ""}`);
    assert.deepEqual(parseConfig(configYaml(config), "again.yaml").config, config, name);
  }
  const { config } = parsed("loss_type: simpo\ngamma_beta_ratio: 0.25\n");
  assert.equal(parseConfig(configYaml(config), "again.yaml").config.gammaBetaRatio, 0.25);
});
