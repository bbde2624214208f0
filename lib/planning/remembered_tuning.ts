/** How products are computed on the adapters that were measured: a file of the cache, and files that are shipped. */
import { basename, dirname, join } from "node:path";
import { UserError } from "../errors.ts";
import type { MatrixPrecision } from "../../kernels/gemm.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Measured } from "../gpu/tuner.ts";
import { isRate, isTuningRecord, suits, type TuningRecord } from "../gpu/tuning.ts";
import { isObject, matches, show } from "../text/json.ts";
import { VERSION } from "../program/version.ts";
import { readTextFile, writeWhole } from "../files/whole_file.ts";

/** Where it is, in the cache's folder. */
export const rememberedFile = (folder: string): string => join(folder, "tuning.json");

/** What is remembered of an adapter. */
export interface AdapterTuning {
  /** Its name, with the engine's where that is not the usual one. */
  adapter: string;
  /** Of this program: another one may have other kernels. */
  version: string;
  /** Lanes of its subgroups at least, where it has some: a newer driver may grant them under the same name. */
  subgroups?: number;
  tiles: TuningRecord;
  /** Of which they came, where they were measured here. */
  rates: Measured["rates"];
}

/** The file's content: a tuning for each adapter and version of this program. */
type Remembered = Record<string, unknown>;

type Known = Pick<Gpu, "name" | "subgroups" | "matrices" | "float32Matrices">;

const keyOf = (
  { adapter, version, subgroups }: Pick<AdapterTuning, "adapter" | "version" | "subgroups">,
  precision?: MatrixPrecision,
) =>
  `${adapter}, simper ${version}${subgroups ? `, subgroups of ${subgroups}` : ""}` +
  (precision ? `, float32_matmul_precision ${precision}` : "");

const identityOf = ({ name, subgroups }: Known) => ({
  adapter: name,
  version: VERSION,
  ...(subgroups && { subgroups: subgroups.minSize }),
});

/** What was measured on this adapter before, for products of that precision, if it was. */
export async function rememberedTuning(
  gpu: Known,
  folder: string,
  precision?: MatrixPrecision,
): Promise<AdapterTuning | undefined> {
  const found = (await readAll(folder))[keyOf(identityOf(gpu), precision)];
  const isThat = isAdapterTuning(found) && found.tiles.precision === precision && suits(found.tiles, gpu);
  return isThat ? found : undefined;
}

/** Remembers for this adapter what was measured on it, or what another run took; returns it as it is remembered. */
export async function rememberTuning(
  gpu: Known,
  folder: string,
  tiles: TuningRecord,
  rates: Measured["rates"] = [],
): Promise<AdapterTuning> {
  const tuning = { ...identityOf(gpu), tiles, rates };
  await writeJson(rememberedFile(folder), {
    ...await readAll(folder),
    [keyOf(tuning, tiles.precision)]: tuning,
  });
  return tuning;
}

/** Writes what is remembered of an adapter, for others of its kind. @throws {UserError} where it cannot be written. */
export async function writeTuning(path: string, tuning: AdapterTuning): Promise<void> {
  await writeJson(path, tuning);
}

/**
 * Reads what `writeTuning` wrote.
 * @throws {UserError} (status 2) where it cannot be read or is damaged.
 */
export async function readTuning(path: string): Promise<AdapterTuning> {
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(`${path}: cannot be read: ${error.message}`, 2);
  });
  const found = parse(text);
  if (isAdapterTuning(found)) return found;
  throw new UserError(
    `${path}: expected a file as \`simper tune --output=FILE\` writes it, found ${
      found === undefined ? "no JSON" : "something else"
    }: was it changed?`,
    2,
  );
}

/** Says what a tuning that was read was made for, where it is not this. @throws {UserError} (status 2) */
export function checkIsFor(gpu: Known, path: string, tuning: AdapterTuning): void {
  const here = identityOf(gpu);
  const differ = [
    ["adapter", here.adapter, tuning.adapter],
    ["version of simper", here.version, tuning.version],
    ["size of subgroups", here.subgroups, tuning.subgroups],
  ].filter(([, one, other]) => one !== other);
  const problems = differ.map(([what, one, other]) =>
    `${path}: ${what}: expected ${show(one)}, found ${show(other)}`
  );
  // A file may name tiles that its own adapter never took.
  if (problems.length === 0 && !suits(tuning.tiles, gpu)) {
    problems.push(`${path}: its tiles need subgroups or their matrices, which ${gpu.name} does not have`);
  }
  if (problems.length === 0) return;
  throw new UserError(`${problems.join("\n")}\n\`simper tune\` measures this adapter`, 2);
}

function isAdapterTuning(value: unknown): value is AdapterTuning {
  const shape = { adapter: "", version: "", tiles: {}, rates: [{ shape: "", way: "", rate: 0 }] };
  if (!matches(value, shape)) return false;
  const { tiles, rates, subgroups = 0 } = value as AdapterTuning;
  return isTuningRecord(tiles) && rates.every(isRate) && typeof subgroups === "number";
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeWhole(dirname(path), basename(path), `${JSON.stringify(value, null, 2)}\n`, { flush: false });
}

/** A file that is missing or damaged remembers nothing: it can be made again. */
async function readAll(folder: string): Promise<Remembered> {
  const found = parse(await readTextFile(rememberedFile(folder)).catch(() => ""));
  return isObject(found) ? found : {};
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
