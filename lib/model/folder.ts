import { copyFile, mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";

/** What transformers and tokenizers read of a model folder besides its weights. */
const MODEL_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "tokenizer.model",
];

/**
 * Copies the configuration, tokenizer and chat template files of a model into `outFolder` (made if it is
 * missing), byte for byte. The copies are plain files, also where the source holds links, as the cache of the
 * Hugging Face Hub does; what is no file in the source is passed over, and no copy is ever half a file.
 *
 * @returns the names of the files copied.
 * @throws UserError where a file cannot be read or written.
 */
export async function copyModelFiles(sourceFolder: string, outFolder: string): Promise<string[]> {
  const copied: string[] = [];
  try {
    await mkdir(outFolder, { recursive: true });
    for (const name of MODEL_FILES) {
      const stats = await stat(join(sourceFolder, name)).catch(() => undefined);
      if (!stats?.isFile()) continue;
      const temporary = join(outFolder, `${name}.tmp`);
      await rm(temporary, { force: true });
      await copyFile(join(sourceFolder, name), temporary);
      await rename(temporary, join(outFolder, name));
      copied.push(name);
    }
  } catch (error) {
    throw new UserError(
      `cannot copy the model's files from ${sourceFolder} to ${outFolder}: ${(error as Error).message}`,
    );
  }
  return copied;
}
