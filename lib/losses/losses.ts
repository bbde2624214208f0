import type { WgslLoss } from "./loss.ts";
import { sft } from "./sft.ts";
import { simper } from "./simper.ts";

/** The losses by their `loss_type`. */
export const losses: Readonly<Record<"simper" | "sft", WgslLoss>> = { simper, sft };
