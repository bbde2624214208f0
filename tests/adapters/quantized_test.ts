/**
 * Adapters over a base in 4 bits, beside PEFT's over bitsandbytes': tests/golden/quantized (its qlora.py says how
 * they were made).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import golden from "../golden/quantized/qlora.json" with { type: "json" };
import { relativeDifference } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const KEYS: Record<string, string[]> = {
  "nf4": [],
  "fp4 double": ["--bnb_4bit_quant_type=fp4", "--use_bnb_nested_quant"],
};

for (const [name, { way, log }] of Object.entries(golden)) {
  Deno.test(`${name} over ${way}: eight steps from PEFT's adapters are those of PEFT and PyTorch`, () =>
    withTemporaryFolder(async (folder) => {
      const { history } = await run(join(folder, "out"), [
        "--model_name_or_path=tests/golden/llama/untied",
        "--use_peft",
        `--adapter_name_or_path=tests/golden/adapters/${name}`,
        "--load_in_4bit",
        ...KEYS[way],
        "--max_steps=8",
        "--save_strategy=no",
        "--weight_decay=0",
      ]);
      const entries = history.filter((entry) => "loss" in entry);
      for (const key of ["loss", "grad_norm", "rewards/chosen", "rewards/rejected"] as const) {
        const [found, expected] = [entries, log].map((list) => list.map((entry) => entry[key] as number));
        // Of losses that are differences of numbers some hundred times as large, by those.
        const scale = key === "loss" ? 100 : 1;
        assert.ok(relativeDifference(found, expected) < 1e-4 * scale, `${key}: ${found} and ${expected}`);
      }
    }));
}
