/** Bounds of single keys, and what keys ask of each other. */
import assert from "node:assert/strict";
import { BASE, mistakes, parsed } from "../run_file.ts";

/** For each key a value at each of its bounds, and the next ones beyond, which are refused. */
const BOUNDS: [key: string, taken: string[], refused: string[]][] = [
  ["learning_rate", ["0", "3e38"], ["-1e-9"]],
  ["adam_beta1", ["0", "0.999999"], ["1", "-0.1"]],
  ["adam_beta2", ["0", "0.999999"], ["1", "1.5"]],
  ["warmup_ratio", ["0", "1"], ["1.01", "-0.01"]],
  ["warmup_steps", ["0", "0.5", "1", "7"], ["-1", "1.5"]],
  ["weight_decay", ["0", "1"], ["-0.1"]],
  ["max_grad_norm", ["0", "1"], ["-1"]],
  ["max_length", ["129", "1048576"], ["1048577", "200.5"]],
  ["max_prompt_length", ["1", "511"], ["0", "-1", "512"]],
  ["per_device_train_batch_size", ["1", "1048576"], ["0", "1048577"]],
  ["gradient_accumulation_steps", ["1", "524288"], ["0", "524289"]],
  ["max_steps", ["-1", "10000000"], ["10000001", "0.5"]],
  ["num_train_epochs", ["0.5", "100000"], ["100001", "0"]],
];

Deno.test("a number is taken up to its bounds, and refused beyond", () => {
  for (const [key, taken, refused] of BOUNDS) {
    for (const value of taken) parsed(`${key}: ${value}`);
    for (const value of refused) {
      assert.equal(mistakes(`${BASE}${key}: ${value}`).length, 1, `${key}: ${value}`);
    }
  }
});

Deno.test("what checkpoints and evaluations ask of each other is said at the key that was written", () => {
  const one = (lines: string) => {
    const [line, ...others] = mistakes(BASE + lines);
    assert.deepEqual(others, []);
    return line;
  };
  assert.match(one("save_steps: 0"), /^run\.yaml:3:13: save_steps: expected save_steps above 0/);
  assert.match(
    one("save_strategy: best\nmetric_for_best_model: loss"),
    /^run\.yaml:3:16: save_strategy: best compares evaluations: .* found no and "loss"$/,
  );
  assert.match(one("save_strategy: best\neval_strategy: steps"), /found steps and nothing$/);
  assert.match(
    one("load_best_model_at_end: true\neval_strategy: epoch\nsave_strategy: steps"),
    /the same save_strategy and eval_strategy, found steps and epoch$/,
  );
  assert.match(
    one(
      "load_best_model_at_end: true\neval_strategy: steps\neval_steps: 3\nsave_steps: 8\nsave_strategy: steps",
    ),
    /save_steps to be a multiple of eval_steps, found 8 and 3$/,
  );
  const fine =
    "load_best_model_at_end: true\neval_strategy: steps\neval_steps: 4\nsave_steps: 8\nsave_strategy: steps";
  assert.equal(parsed(fine).config.saveSteps, 8);
  // With epochs the numbers of steps do nothing.
  parsed(
    "load_best_model_at_end: true\neval_strategy: epoch\nsave_strategy: epoch\neval_steps: 3\nsave_steps: 8",
  );
});

Deno.test("a key that does nothing beside the others is told of, and only then", () => {
  for (
    const [lines, why] of [
      ["max_steps: 5\nnum_train_epochs: 2", "num_train_epochs: ignored: max_steps is above 0 and wins"],
      ["save_strategy: no\nsave_steps: 5", "save_steps: ignored: save_strategy is no"],
      ["greater_is_better: true", "greater_is_better: ignored: there is no metric_for_best_model"],
      ["hub_model_id: a/b", "hub_model_id: ignored: push_to_hub is off"],
    ] as const
  ) assert.deepEqual(parsed(lines).ignored, [why]);
  for (
    const lines of [
      "max_steps: -1\nnum_train_epochs: 2",
      "save_strategy: steps\nsave_steps: 5",
      "metric_for_best_model: loss\ngreater_is_better: true",
      "warmup_steps: 0\nwarmup_ratio: 0.3",
    ]
  ) assert.deepEqual(parsed(lines).ignored, [], lines);
});

Deno.test("the best model is by default the one of least loss, and of any other figure the greatest", () => {
  const best = (lines: string) => {
    const { metricForBestModel, greaterIsBetter } =
      parsed(`eval_strategy: epoch\nsave_strategy: epoch\n${lines}`).config;
    return [metricForBestModel, greaterIsBetter];
  };
  assert.deepEqual(best(""), [undefined, undefined]);
  assert.deepEqual(best("load_best_model_at_end: true"), ["loss", false]);
  for (const name of ["loss", "eval_loss"]) {
    assert.deepEqual(best(`metric_for_best_model: ${name}`), ["loss", false]);
  }
  assert.deepEqual(best("metric_for_best_model: eval_rewards/margins"), ["rewards/margins", true]);
  assert.deepEqual(best("metric_for_best_model: loss\ngreater_is_better: true"), ["loss", true]);
  assert.deepEqual(best("metric_for_best_model: logps/rejected\ngreater_is_better: false"), [
    "logps/rejected",
    false,
  ]);
});

Deno.test("what is no pattern of parameters' names is refused with the reason", () => {
  assert.deepEqual(
    mistakes(`${BASE}unfrozen_parameters: [model.norm, "model.layers.(3"]\n`).map((line) =>
      line.replace(/(: )Invalid.*/, "$1...")
    ),
    ['run.yaml:3:22: unfrozen_parameters: expected regular expressions of parameters\' names, found "model.layers.(3": ...'],
  );
  // axolotl's rows of a matrix, which a regular expression would take for characters.
  assert.match(
    mistakes(`${BASE}unfrozen_parameters: ["^model.embed_tokens.weight$[:32000]"]\n`)[0],
    /found "\^model\.embed_tokens\.weight\$\[:32000\]": training some rows of a matrix is not available/,
  );
  assert.match(mistakes(`${BASE}unfrozen_parameters: model.norm\n`)[0], /expected a list of texts/);
  const { config } = parsed('unfrozen_parameters: ["^lm_head.weight$", "model.layers.[01].mlp"]\n');
  assert.deepEqual(config.unfrozenParameters, ["^lm_head.weight$", "model.layers.[01].mlp"]);
});

Deno.test("weights are quantized where some are frozen and there are any, in one way", () => {
  const frozen = `${BASE}unfrozen_parameters: [model.norm]\n`;
  parsed("unfrozen_parameters: [model.norm]\nload_in_4bit: true\nbnb_4bit_use_double_quant: true");
  assert.match(
    mistakes(`${frozen}load_in_4bit: true\nload_in_8bit: true`).join("\n"),
    /^run\.yaml:5:15: load_in_8bit: expected load_in_4bit or load_in_8bit, found both$/,
  );
  assert.match(
    mistakes(`${BASE}load_in_4bit: true`).join("\n"),
    /^run\.yaml:3:15: load_in_4bit: expected use_peft: true or unfrozen_parameters beside it/,
  );
  assert.match(
    mistakes(`${frozen}load_in_8bit: true\nfrom_scratch: true`).join("\n"),
    /load_in_8bit: expected a model that has weights, found from_scratch: true$/,
  );
  assert.deepEqual(parsed("torch_dtype: bfloat16\nbnb_4bit_quant_type: fp4").ignored, [
    "torch_dtype: ignored: every weight is trained: optim says how it is kept, and it is saved in the source's dtype",
    "bnb_4bit_quant_type: ignored: load_in_4bit is off",
  ]);
});

Deno.test("a reference is only for losses that look at one, and KTO's micro-batch is of two responses or more", () => {
  for (const key of ["ref_model: other", "precompute_ref_batch_size: 4"]) {
    const name = key.split(":")[0];
    const refused = (lines: string) => mistakes(`${BASE}${key}\n${lines}`).join("\n");
    assert.match(
      refused("loss_type: simper"),
      new RegExp(`^run\\.yaml:3:\\d+: ${name}: there is no reference with loss_type: simper: remove it$`),
    );
    // It may be a script's loss.
    parsed(key);
    assert.match(refused("loss_type: [simpo, sft]"), /no reference with loss_type: simpo and sft:/);
    assert.match(
      refused("loss_type: sigmoid\nreference_free: true"),
      /loss_type: sigmoid and reference_free:/,
    );
    parsed(`${key}\nloss_type: sigmoid`);
    parsed(`${key}\nloss_type: [sigmoid, sft]`);
  }
  const one = "per_device_train_batch_size: 1\nloss_type:";
  assert.match(
    mistakes(`${BASE}${one} kto`)[0],
    /^run\.yaml:3:30: .*expected 2 or more with loss_type: kto, found 1/,
  );
  parsed(`${one} apo_zero_unpaired`);
  const { ignored } = parsed("precompute_ref_log_probs: true\nref_model_sync_steps: 64");
  assert.equal(
    ignored.filter((line) => /always computed before|there is no sync_ref_model/.test(line)).length,
    2,
  );
  assert.match(
    mistakes(`${BASE}sync_ref_model: true`)[0],
    /sync_ref_model: .*computed once, before the first step/,
  );
});
