import { join } from "node:path";
import { readTextFile } from "../files/whole_file.ts";

/** The positions that a model was made for; of one whose config.json does not say it at the top, any. */
export async function contextOf(folder: string): Promise<number> {
  const { max_position_embeddings: most } = JSON.parse(await readTextFile(join(folder, "config.json")));
  return Number.isSafeInteger(most) && most > 1 ? most : Infinity;
}
