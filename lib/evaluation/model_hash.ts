import { type ModelFolder, openFound } from "../adapters/model.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { rememberedHashes, sha256 } from "../data/file_hash.ts";
import { readModelFiles } from "../hub/model_files.ts";
import type { OnProgress } from "../progress/progress.ts";

/** Digits of a hash that is shown. */
const DIGITS = 16;

/**
 * What a model's answers follow from, besides what it is asked: its weights, configuration, tokenizer and chat
 * template, in hexadecimal. What was hashed before is not read again.
 *
 * @param chatTemplate in the place of the model's own.
 */
export async function modelHash(
  found: ModelFolder,
  chatTemplate: string | undefined,
  onProgress?: OnProgress,
): Promise<string> {
  const model = await openFound(found);
  await model.close();
  const weights = await rememberedHashes(model.files, cacheFolder(), "hashing the model", onProgress);
  const files = [...await readModelFiles(found.folder)].map(([name, bytes]) => [name, sha256(bytes)]);
  return sha256(JSON.stringify([weights.map(({ sha256 }) => sha256), files, chatTemplate])).slice(0, DIGITS);
}
