import { ADAPTERS } from "./adapters.ts";
import { ATTENTION_EDITS } from "./attention.ts";
import { COMPARISON } from "./comparison.ts";
import { INPUT } from "./input.ts";
import { KERNELS } from "./kernels.ts";
import { MODEL } from "./model.ts";
import type { Edits } from "./mutants.ts";
import { RUNS } from "./runs.ts";
import { RANKS } from "./ranks.ts";
import { SCRIPTS } from "./scripts.ts";
import { SERVER } from "./server.ts";

/** Every edit. */
export const ALL: readonly Edits[] = [
  ...KERNELS,
  ...ATTENTION_EDITS,
  ...MODEL,
  ...RUNS,
  ...INPUT,
  ...RANKS,
  ...SCRIPTS,
  ...SERVER,
  ...ADAPTERS,
  ...COMPARISON,
];
