/** What a checkpoint holds besides tensors. */
import { parseConfig } from "../../../lib/config/parse.ts";
import { configEntries } from "../../../lib/config/write.ts";
import { checkConfig, checkFiles, warnings } from "../../../lib/checkpoint/fingerprint.ts";
import { type Fingerprint, FORMAT, readSavedRun } from "../../../lib/checkpoint/state.ts";
import { RULES } from "../../../lib/data/pairs.ts";
import { CollapseAlarm } from "../../../lib/training/collapse.ts";
import { Figures } from "../../../lib/training/figures.ts";
import { usualTuning } from "../../../lib/gpu/tuning.ts";
import { damageBytes } from "../bytes.ts";
import { damageJson } from "../json.ts";
import type { Random } from "../random.ts";
import { place, type Target } from "../target.ts";

const CONFIG = parseConfig("model_name_or_path: m\ndataset_mixer: {d: 0.5}\n", "run.yaml").config;
const RUN: Fingerprint = {
  config: Object.fromEntries(
    configEntries(CONFIG).map(([key, value]) => [key, value instanceof Map ? [...value] : value]),
  ),
  model: { "config.json": "0".repeat(64) },
  tokenizer: "1".repeat(64),
  template: "2".repeat(64),
  date: "2026-11-28",
  rules: RULES,
  train: ["3".repeat(64)],
};
const METRICS = {
  loss: 0.5,
  "rewards/chosen": -1,
  "rewards/rejected": -2,
  "rewards/accuracies": 1,
  "rewards/margins": 1,
};
const STATE = {
  format: FORMAT,
  version: "0.1.0",
  step: 2,
  position: { epoch: 0, pair: 4 },
  run: RUN,
  device: "llvmpipe",
  kernels: usualTuning("software"),
  figures: {
    pairs: 4,
    tokens: 90,
    sequenceTokens: 120,
    lossSum: 1.5,
    flops: 1e9,
    seconds: 3,
    window: { steps: [METRICS], pairs: 2, tokens: 45, seconds: 1.5 },
  },
  collapse: {
    start: { pairs: 4, chosen: -4, rejected: -6 },
    recent: [{ pairs: 2, chosen: -2, rejected: -3 }],
    isRaised: false,
    alarms: [],
  },
  answers: ["Yes."],
};
const TRAINER_STATE = {
  global_step: 2,
  epoch: 0.5,
  log_history: [{ step: 1, loss: 0.7 }, { step: 2, loss: 0.5 }],
};

const damaged = (random: Random, value: unknown) => {
  const bytes = new TextEncoder().encode(damageJson(random, value));
  return random.chance(0.15) ? damageBytes(random, bytes) : bytes;
};

export const checkpoint: Target = {
  name: "checkpoint",
  names: /case/,
  make(random, world) {
    const isLog = random.chance(0.3);
    const files = {
      "run_state.json": isLog ? JSON.stringify(STATE) : damaged(random, STATE),
      "trainer_state.json": isLog ? damaged(random, TRAINER_STATE) : JSON.stringify(TRAINER_STATE),
    };
    return {
      bytes: place(world, files),
      run: async () => {
        const saved = await readSavedRun(world.folder);
        checkConfig(CONFIG, saved);
        checkFiles(RUN, saved, 100);
        warnings(saved, "llvmpipe");
        const { state, trainerState } = saved;
        const alarm = new CollapseAlarm(state.collapse);
        alarm.add(3, 2, { chosen: -1, rejected: -2 });
        alarm.toJSON();
        const figures = new Figures({
          steps: state.step,
          history: trainerState.log_history,
          state: state.figures,
        });
        figures.toJSON();
        figures.totals;
        // A run that goes on adds a step before it logs.
        if (state.figures.window.steps.length > 0) figures.takeWindow();
        for (const text of state.answers) text.slice(0, 1);
      },
    };
  },
};
