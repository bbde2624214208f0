import { checkpoint } from "./targets/checkpoints.ts";
import { data } from "./targets/data.ts";
import { hub } from "./targets/hub.ts";
import { models } from "./targets/models.ts";
import { pack } from "./targets/packs.ts";
import { runFiles } from "./targets/run_files.ts";
import type { Target } from "./target.ts";

/** Every format, in the order in which they are run. */
export const TARGETS: readonly Target[] = [...models, ...runFiles, ...data, checkpoint, pack, hub];
