/** A tensor of the checkpoint, by its Hugging Face name, as rows of a fused parameter. */
export interface ParameterPart {
  name: string;
  rows: number;
}

/**
 * One matrix that kernels read. Matrices that are applied to the same input lie under each other (query, key and value;
 * gate and up), so that one product serves them all. `isVector` tells a checkpoint shape of [columns] from [rows, columns].
 */
export interface ParameterSpec {
  name: string;
  parts: ParameterPart[];
  columns: number;
  isVector: boolean;
}

/** Rows and columns of a parameter. */
export const shapeOf = (spec: ParameterSpec): [rows: number, columns: number] => [
  spec.parts.reduce((sum, part) => sum + part.rows, 0),
  spec.columns,
];

/** How many numbers a model has to learn. */
export const parameterCount = (parameters: readonly ParameterSpec[]): number =>
  parameters.reduce((sum, spec) => {
    const [rows, columns] = shapeOf(spec);
    return sum + rows * columns;
  }, 0);

/** One name for several: `self_attn.{q,k,v}_proj.weight`. */
export function commonName(names: readonly string[]): string {
  const [first] = names;
  if (names.length === 1) return first;
  const same = (at: (name: string) => string) => names.every((name) => at(name) === at(first));
  let before = 0;
  while (same((name) => name.slice(0, before + 1))) before++;
  let after = 0;
  while (same((name) => name.slice(name.length - after - 1))) after++;
  const middle = names.map((name) => name.slice(before, name.length - after));
  return `${first.slice(0, before)}{${middle}}${first.slice(first.length - after)}`;
}
