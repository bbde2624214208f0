/** Gives a model's graph its adapters. */
import { UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { commonName, type ParameterPart, type ParameterSpec } from "../parameters/parameter.ts";
import { moduleOf } from "./modules.ts";
import { type AdapterPlan, type AdapterSettings, rankOf, scaleOf } from "./settings.ts";

/** The parameters of a module's adapter, by the names that PEFT gives them within the model. */
export const namesOfAdapter = (module: string) => ({
  a: `${module}.lora_A.weight`,
  b: `${module}.lora_B.weight`,
  magnitude: `${module}.lora_magnitude_vector`,
});

/**
 * Freezes all of a model but what `plan` trains whole, and adds its adapters.
 * @throws {UserError} (status 2) for a rank beyond a matrix, or where modules that are kept as one are to be trained
 * in part.
 */
export function adapt(net: Net, plan: AdapterPlan): void {
  const problems: string[] = [];
  for (const parameter of net.parameters) {
    const parts = parameter.parts.filter(({ name }) => plan.saved.has(name));
    parameter.role = parts.length > 0 ? "trained" : "frozen";
    if (parts.length === 0 || parts.length === parameter.parts.length) continue;
    const others = parameter.parts.filter(({ name }) => !plan.saved.has(name));
    const list = (parts: ParameterPart[]) => parts.map(({ name }) => moduleOf(name)).join(" and ");
    problems.push(
      `lora_modules_to_save: ${list(parts)} would be trained and ${
        list(others)
      } not: they are kept and trained as one here, ` +
        "so name all of them or none",
    );
  }
  let firstPlace = 0;
  for (const weight of net.linearWeights) {
    const places = rowsOfModules(weight, plan);
    if (places.length === 0) continue;
    const limit = Math.min(weight.columns, ...places.map(({ rows }) => rows));
    const [{ rank, scale, module }] = places;
    if (rank > limit) {
      problems.push(
        `lora_r: expected at most ${limit}, the lesser side of ${weight.name}, found ${rank}: beyond it an ` +
          "adapter learns no more",
      );
    }
    const other = places.find((place) => place.rank !== rank || place.scale !== scale);
    if (other) {
      problems.push(
        `adapter_name_or_path: ${module} has rank ${rank} and scale ${scale}, and ${other.module} ${other.rank} and ` +
          `${other.scale} (rank_pattern, alpha_pattern): they are kept and trained as one here, and have to have the ` +
          "same; `simper merge` merges them",
      );
    }
    adaptOne(net, weight, plan.settings, places, firstPlace);
    firstPlace += places.length;
  }
  if (problems.length > 0) throw new UserError([...new Set(problems)].slice(0, SHOWN).join("\n"), 2);
}

/** Mistakes that are told: one comes up in every layer. */
const SHOWN = 3;

/** An adapted module of a matrix. */
interface Place {
  part: ParameterPart;
  module: string;
  /** Its rows in the matrix. */
  firstRow: number;
  rows: number;
  rank: number;
  scale: number;
}

function rowsOfModules({ parts }: ParameterSpec, { modules, settings }: AdapterPlan): Place[] {
  let firstRow = 0;
  return parts.flatMap((part) => {
    const module = moduleOf(part.name);
    const rank = rankOf(settings, module);
    const place = { part, module, firstRow, rows: part.rows, rank, scale: scaleOf(settings, module, rank) };
    firstRow += part.rows;
    return modules.has(module) ? [place] : [];
  });
}

function adaptOne(
  net: Net,
  weight: ParameterSpec,
  { dora, dropout }: AdapterSettings,
  places: readonly Place[],
  firstPlace: number,
): void {
  const [{ rank, scale }] = places;
  const specOf = (parts: ParameterPart[], columns: number): ParameterSpec => ({
    name: commonName(parts.map(({ name }) => name)),
    parts,
    columns,
    kind: "matrix",
    role: "adapter",
  });
  const ofRows = (name: string, { order, rows }: ParameterPart, shape?: number[]): ParameterPart => ({
    name,
    rows,
    ...(order && { order }),
    ...(shape && { shape }),
  });
  const magnitudes = places.map(({ part, module }) =>
    ofRows(namesOfAdapter(module).magnitude, part, [part.rows])
  );
  net.adapt(weight, {
    a: specOf(places.map(({ module }) => ({ name: namesOfAdapter(module).a, rows: rank })), weight.columns),
    b: specOf(places.map(({ part, module }) => ofRows(namesOfAdapter(module).b, part)), rank),
    ...(dora && { magnitude: specOf(magnitudes, 1) }),
    rank,
    scale,
    dropout,
    modules: places.map(({ firstRow, rows }) => ({ firstRow, rows })),
    firstPlace,
  });
}
