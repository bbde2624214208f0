/** Which values of config.json the tensors of the files contradict. */
import type { ModelConfig } from "../models/architecture.ts";

type Shapes = ReadonlyMap<string, readonly number[]>;

/** Layers that all but their own count is judged by. */
const LAYERS = 4;
/** Values that are told; with more wrong, the files are of another model. */
const MOST = 6;

/** What is wrong, and the tensors that it does not explain. */
export interface Contradictions {
  /** Sentences, each with both numbers. */
  values: string[];
  unexplained: Shapes;
}

/**
 * Looks for values with which the tensors would fit, one after the other: each time the one that leaves the fewest
 * tensors wrong.
 *
 * @param shapesOf the tensors of a configuration's model, by their names in transformers' class.
 * @param found name and shape of such a tensor in the files.
 */
export function contradictions(
  config: ModelConfig,
  shapesOf: (config: ModelConfig) => Shapes,
  found: (parameter: string) => { name: string; shape: readonly number[] } | undefined,
): Contradictions {
  const isWrong = (name: string, shape: readonly number[]) => String(found(name)?.shape) !== String(shape);
  const wrongOf = (config: ModelConfig): Shapes =>
    new Map([...shapesOf(config)].filter(([name, shape]) => isWrong(name, shape)));
  const values: string[] = [];
  let fitted = config;
  const layers = layersIn([...shapesOf(config).keys()].filter((name) => found(name)));
  if (layers > 0 && layers < config.numHiddenLayers) {
    values.push(`num_hidden_layers is ${config.numHiddenLayers}, but the files have ${layers}`);
    fitted = { ...config, numHiddenLayers: layers };
  }
  const few = (config: ModelConfig) => ({
    ...config,
    numHiddenLayers: Math.min(config.numHiddenLayers, LAYERS),
  });
  while (values.length < MOST) {
    const wrong = wrongOf(few(fitted));
    if (wrong.size === 0) break;
    const tried = candidates(fitted, wrong, found)
      .map((candidate) => ({
        ...candidate,
        wrong: wrongOf(few({ ...fitted, [candidate.field]: candidate.value })),
      }));
    const best = tried.reduce((a, b) => b.wrong.size < a.wrong.size ? b : a, { field: "", value: 0, wrong });
    if (best.wrong.size === wrong.size) break;
    const explained = [...wrong].filter(([name]) => !best.wrong.has(name));
    values.push(sentence(fitted, best, explained, found));
    fitted = { ...fitted, [best.field]: best.value };
  }
  return { values, unexplained: wrongOf(fitted) };
}

interface Candidate {
  field: string;
  value: number | boolean;
}

/**
 * Counts that stand to their value as a dimension that is there to the one that is expected, and switches that are
 * off.
 */
function candidates(
  config: ModelConfig,
  wrong: Shapes,
  found: (parameter: string) => { shape: readonly number[] } | undefined,
): Candidate[] {
  const ratios = new Map<string, [number, number]>();
  for (const [name, shape] of wrong) {
    found(name)?.shape.forEach((there, i) => {
      if (there !== shape[i]) ratios.set(`${there}/${shape[i]}`, [there, shape[i]]);
    });
  }
  return Object.entries(config).flatMap(([field, value]): Candidate[] => {
    if (value === true) return [{ field, value: false }];
    if (typeof value !== "number") return [];
    return [...ratios.values()].map(([there, expected]) => ({ field, value: value * there / expected }))
      .filter(({ value }) => Number.isInteger(value) && value > 0);
  });
}

function sentence(
  config: ModelConfig,
  { field, value }: Candidate,
  explained: readonly (readonly [string, readonly number[]])[],
  found: (parameter: string) => { name: string; shape: readonly number[] } | undefined,
): string {
  const now = (config as unknown as Record<string, unknown>)[field];
  const key = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const [parameter, shape] = explained.find(([name]) => found(name)) ?? explained[0];
  const tensor = found(parameter);
  if (!tensor) return `${key} is ${now}, but ${parameter} is missing`;
  const at = shape.findIndex((expected, i) => expected !== tensor.shape[i]);
  const unit = tensor.shape.length === 1 ? "elements" : ["rows", "columns"][at];
  const meant = shape[at] === now ? "" : `, as of ${value}`;
  return `${key} is ${now}, but ${tensor.name} has ${tensor.shape[at]} ${unit}${meant}`;
}

/** One more than the number of the last layer. */
function layersIn(names: readonly string[]): number {
  return Math.max(0, ...names.map((name) => Number(/\.(\d+)\./.exec(name)?.[1] ?? -1) + 1));
}
