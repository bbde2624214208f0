import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { parseModelConfig } from "../models/config.ts";
import { readTextFile } from "../files/whole_file.ts";

/**
 * Reads config.json of a model folder.
 *
 * @param warn told of what is read otherwise than it may be meant.
 * @throws UserError where it is missing or no JSON, and as `parseModelConfig`.
 */
export async function readModelConfig(
  folder: string,
  warn?: (message: string) => void,
): Promise<ModelConfig> {
  const path = join(folder, "config.json");
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(`${path}: cannot be read: expected the configuration of a model: ${error.message}`);
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  return parseModelConfig(json, path, warn);
}
