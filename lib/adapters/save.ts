/** The weights of a run on the disk: a model's, or its adapters alone. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { sortedJson } from "../text/json.ts";
import { removeWeights, saveCheckpoint, type TensorSource, writeSafetensors } from "../safetensors/write.ts";
import { writeWhole } from "../files/whole_file.ts";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../hub/model_files.ts";
import type { AdapterPlan } from "./settings.ts";

/** Adapters and the model that they are for, by its name in the run file. */
export interface SavedAdapter extends Pick<AdapterPlan, "record"> {
  base: string;
  revision?: string;
}

/**
 * Writes weights into `folder`, as transformers' or, of adapters, PEFT's save_pretrained() does; weights of the other
 * kind that an earlier run left there go.
 * @throws {UserError} where a file cannot be written.
 */
export async function saveWeights(
  folder: string,
  tensors: readonly TensorSource[],
  adapter: SavedAdapter | undefined,
  { flush = true }: { flush?: boolean } = {},
): Promise<void> {
  if (!adapter) {
    await saveCheckpoint(folder, tensors, { flush });
    for (const name of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) await rm(join(folder, name), { force: true });
    return;
  }
  await mkdir(folder, { recursive: true });
  await writeSafetensors(join(folder, ADAPTER_WEIGHTS), tensors, { flush });
  const { record, base, revision = null } = adapter;
  const config = { ...record, base_model_name_or_path: base, revision };
  await writeWhole(folder, ADAPTER_CONFIG, sortedJson(config, 2), { flush });
  await removeWeights(folder);
}
