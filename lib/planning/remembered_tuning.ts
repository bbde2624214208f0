/** How products are computed on the adapters that were measured: a file of the cache. */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Gpu } from "../gpu/device.ts";
import { isTuningRecord, suits, type TuningRecord } from "../gpu/tuning.ts";
import { temporaryName } from "../temporary.ts";
import { VERSION } from "../version.ts";

const FILE = "tuning.json";

/** The file's content: a record for each adapter and version of this program. */
type Remembered = Record<string, unknown>;

/** Where a newer driver grants subgroups under the same name, products are measured again. */
const keyOf = ({ name, subgroups }: Gpu) =>
  `${name}, simper ${VERSION}${subgroups ? `, subgroups of ${subgroups.minSize}` : ""}`;

/** What was measured on this adapter before, if it was. */
export async function rememberedTuning(gpu: Gpu, folder: string): Promise<TuningRecord | undefined> {
  const found = (await readAll(folder))[keyOf(gpu)];
  return isTuningRecord(found) && suits(found, gpu) ? found : undefined;
}

/** Remembers `record` for this adapter. */
export async function rememberTuning(gpu: Gpu, folder: string, record: TuningRecord): Promise<void> {
  const all = { ...await readAll(folder), [keyOf(gpu)]: record };
  await mkdir(folder, { recursive: true });
  const path = join(folder, FILE);
  const beside = temporaryName(path);
  await writeFile(beside, JSON.stringify(all, null, 2));
  await rename(beside, path);
}

/** A file that is missing or damaged remembers nothing: it can be made again. */
async function readAll(folder: string): Promise<Remembered> {
  try {
    const found = JSON.parse(await readFile(join(folder, FILE), "utf8"));
    return typeof found === "object" && found !== null && !Array.isArray(found) ? found : {};
  } catch {
    return {};
  }
}
