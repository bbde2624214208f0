/** Gives a model's graph its adapters. */
import { UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { commonName, type ParameterPart, type ParameterSpec } from "../parameters/parameter.ts";
import { moduleOf } from "./modules.ts";
import { type AdapterPlan, scaleOf } from "./settings.ts";

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
  const { rank } = plan.settings;
  for (const [index, weight] of net.linearWeights.entries()) {
    const limit = Math.min(weight.columns, ...rowsOfModules(weight, plan).map(({ rows }) => rows));
    if (rank > limit) {
      problems.push(
        `lora_r: expected at most ${limit}, the lesser side of ${weight.name}, found ${rank}: beyond it an adapter learns no more`,
      );
    }
    adaptOne(net, weight, plan, index);
  }
  if (problems.length > 0) throw new UserError([...new Set(problems)].slice(0, SHOWN).join("\n"), 2);
}

/** Mistakes that are told: one comes up in every layer. */
const SHOWN = 3;

/** The adapted modules of a matrix, and their rows in it. */
function rowsOfModules({ parts }: ParameterSpec, { modules }: AdapterPlan) {
  let firstRow = 0;
  return parts.flatMap((part) => {
    const place = { part, module: moduleOf(part.name), firstRow, rows: part.rows };
    firstRow += part.rows;
    return modules.has(place.module) ? [place] : [];
  });
}

function adaptOne(net: Net, weight: ParameterSpec, plan: AdapterPlan, index: number): void {
  const places = rowsOfModules(weight, plan);
  if (places.length === 0) return;
  const { settings } = plan;
  const { rank, dropout } = settings;
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
    ...(settings.dora && { magnitude: specOf(magnitudes, 1) }),
    rank,
    scale: scaleOf(settings, places[0].module, rank),
    dropout,
    modules: places.map(({ firstRow, rows }) => ({ firstRow, rows })),
    index,
  });
}
