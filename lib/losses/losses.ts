import type { Loss } from "./loss.ts";
import { sft } from "./sft.ts";
import { simper } from "./simper.ts";

/** The losses by their `loss_type`. */
export const losses: Record<"simper" | "sft", Loss> = { simper, sft };
