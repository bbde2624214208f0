import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../errors.ts";
import { throwUnwritable, writeWhole } from "../files/whole_file.ts";

/** What transformers and tokenizers read of a model folder besides its weights. */
export const MODEL_FILES: readonly string[] = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
  "additional_chat_templates/tool_use.jinja",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "tokenizer.model",
  // Code that transformers runs for EXAONE 3.5, which it has no class of; nothing runs it here.
  "configuration_exaone.py",
  "modeling_exaone.py",
];

/** What adapters are made of, as PEFT saves them. */
export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";
export const ADAPTER_FILES: readonly string[] = [ADAPTER_CONFIG, ADAPTER_WEIGHTS];

/** The largest published one has some 35 MB. */
const LARGEST_FILE = 2 ** 27;

/** Files of a model's folder by name, as they were when they were read. */
export type ModelFiles = ReadonlyMap<string, Uint8Array>;

/**
 * Reads the configuration, tokenizer and chat template files of a model, byte for byte, so that what is trained is
 * saved with what it began with, whatever becomes of the folder. What is no file there is passed over; links are
 * followed, as the cache of the Hugging Face Hub has them.
 *
 * @throws {UserError} where a file cannot be read or has more than 128 MiB.
 */
export async function readModelFiles(folder: string): Promise<ModelFiles> {
  const files = new Map<string, Uint8Array>();
  for (const name of MODEL_FILES) {
    try {
      const bytes = await readOne(join(folder, name));
      if (bytes) files.set(name, bytes);
    } catch (error) {
      if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code!)) continue;
      throw new UserError(`${join(folder, name)}: cannot be read: ${(error as Error).message}`);
    }
  }
  return files;
}

async function readOne(path: string): Promise<Uint8Array | undefined> {
  const stats = await stat(path);
  // A pipe would wait for its writer.
  if (!stats.isFile()) return;
  if (stats.size > LARGEST_FILE) {
    throw new Error(`it has ${stats.size} bytes, and ${LARGEST_FILE} is the most that is read`);
  }
  return await readFile(path);
}

/**
 * Refuses a folder whose files are no longer those that were read.
 * @throws {UserError} naming the first that is another, missing or new.
 */
export async function checkModelFiles(folder: string, files: ModelFiles): Promise<void> {
  const now = await readModelFiles(folder);
  const changed = MODEL_FILES.find((name) => {
    const [before, after] = [files.get(name), now.get(name)];
    return before?.length !== after?.length || before?.some((byte, i) => byte !== after![i]);
  });
  if (changed === undefined) return;
  throw new UserError(
    `model_name_or_path: ${join(folder, changed)} was ${
      now.has(changed) ? "changed" : "removed"
    } while it was being read: start again when nothing writes there`,
  );
}

/**
 * Writes what `readModelFiles` read into `folder` (made if it is missing). No file is ever half one, and none of
 * another model stays among them.
 * @throws {UserError} where a file cannot be written.
 */
export async function writeModelFiles(files: ModelFiles, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch(throwUnwritable(folder));
  for (const [name, bytes] of files) {
    const path = join(folder, name);
    await writeWhole(dirname(path), basename(path), bytes, { flush: false });
  }
  for (const name of MODEL_FILES) {
    if (!files.has(name)) {
      await rm(join(folder, name), { force: true }).catch(throwUnwritable(join(folder, name)));
    }
  }
}
