/** A run's pack, which comes from somebody else. */
import { tablesText } from "../../../lib/evaluation/report.ts";
import { usualTuning } from "../../../lib/gpu/tuning.ts";
import { compareLogs, compareStart, compareWeights } from "../../../lib/reproduction/check.ts";
import { type Pack, readPack } from "../../../lib/reproduction/pack.ts";
import type { LogEntry } from "../../../lib/training/log_entry.ts";
import { damageBytes } from "../bytes.ts";
import { damageJson } from "../json.ts";
import { place, type Target } from "../target.ts";

const RESPONSE = { tokens: 4, promptLength: 2, ids: [1, 2, 3, 4], labels: [3, 4], sha256: "a" };
const PACK: Pack = {
  format: 1,
  version: "0.1.0",
  engine: "Deno/2.9.6",
  platform: "linux x64",
  device: "llvmpipe",
  kernels: usualTuning("software"),
  run: {
    config: { seed: 42, dataset_mixer: [["d", 0.5]] },
    model: { "config.json": "b" },
    tokenizer: "c",
    template: "d",
    date: "2026-11-28",
    rules: 2,
    train: ["e"],
    test: ["f"],
  },
  revisions: { model: null, adapter: null, reference: null, data: [null] },
  steps: 4,
  trainPairs: 8,
  pairs: [{ index: 3, responses: [RESPONSE, RESPONSE] }],
  dataFiles: ["train.jsonl", "test.jsonl"],
  results: { train_loss: 1 },
  weightsStep: 4,
  tensors: { "lm_head.weight": { dtype: "F32", shape: [2], sha256: "g", sample: [1, -4] } },
};
const LOG: LogEntry[] = [{ step: 1, epoch: 0.5, loss: 0.7 }, { step: 2, epoch: 1, eval_loss: 0.5 }];

export const pack: Target = {
  name: "pack",
  names: /case/,
  make(random, world) {
    const isLog = random.chance(0.2);
    const damaged = (value: unknown) => {
      const bytes = new TextEncoder().encode(damageJson(random, value));
      return random.chance(0.15) ? damageBytes(random, bytes) : bytes;
    };
    const files = {
      "pack.json": isLog ? JSON.stringify(PACK) : damaged(PACK),
      "log.jsonl": isLog ? damaged(LOG[0]) : LOG.map((entry) => JSON.stringify(entry)).join("\n"),
    };
    return {
      bytes: place(world, files),
      run: async () => {
        const { pack, log } = await readPack(world.folder);
        const findings = [
          ...compareStart(pack, PACK),
          ...compareLogs(log, LOG),
          ...compareWeights(pack.tensors, PACK.tensors),
        ];
        tablesText([{
          title: "",
          head: ["", "", ""],
          rows: findings.map(({ what, pack, here }) => [what, pack, here]),
        }]);
      },
    };
  },
};
