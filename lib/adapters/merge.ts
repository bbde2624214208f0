/** Adapters merged into the weights, as PEFT's `merge_and_unload`. */
import { type FloatDtype, fromF32 } from "../safetensors/dtype.ts";
import { overlaid, type TensorReader } from "../safetensors/read.ts";
import type { TensorSource } from "../safetensors/write.ts";
import type { ModelWeights } from "../weights/weights.ts";
import { namesOfAdapter } from "./adapt.ts";
import type { OpenAdapter } from "./open.ts";
import { scaleOf } from "./settings.ts";
import { infoOf } from "./start.ts";

/** Elements of a matrix that are merged at a time. */
const PIECE = 2 ** 22;

/**
 * The weights of a model with adapters merged into them, in float32: W + scale B A, each row brought to its
 * magnitude's length where there is one; and the modules that were trained whole.
 */
export function merged(weights: TensorReader, adapter: OpenAdapter): TensorReader {
  const modules = new Map([...adapter.modules].map((module) => [`${module}.weight`, module]));
  const factors = new Map<string, ReturnType<typeof factorsOf>>();
  /** Read once: a matrix is asked for in pieces, one after the other. */
  const factorsOnce = (module: string) => {
    const known = factors.get(module);
    if (known) return known;
    factors.clear();
    const read = factorsOf(adapter, module);
    factors.set(module, read);
    return read;
  };
  const readF32: TensorReader["readF32"] = async (name, first = 0, count) => {
    const module = modules.get(name);
    if (module === undefined) return await adapter.readF32(name, first, count);
    const [rows, columns] = weights.tensors.get(name)!.shape;
    const end = count === undefined ? rows * columns : first + count;
    const [firstRow, lastRow] = [Math.floor(first / columns), Math.ceil(end / columns)];
    const values = await weights.readF32(name, firstRow * columns, (lastRow - firstRow) * columns);
    mergeRows(values, firstRow, columns, await factorsOnce(module));
    return values.slice(first - firstRow * columns, end - firstRow * columns);
  };
  const names = [...modules.keys(), ...adapter.saved];
  return overlaid(weights, {
    tensors: new Map(names.map((name) => [name, infoOf(name, weights.tensors.get(name)!.shape)])),
    readF32,
    readBytes: () => Promise.reject(new Error("merged weights are read as float32")),
  });
}

async function factorsOf({ readF32, tensors, settings }: OpenAdapter, module: string) {
  const names = namesOfAdapter(module);
  const [rank] = tensors.get(names.a)!.shape;
  return {
    rank,
    scale: scaleOf(settings, module, rank),
    a: await readF32(names.a),
    b: await readF32(names.b),
    magnitude: settings.dora ? await readF32(names.magnitude) : undefined,
  };
}

function mergeRows(
  values: Float32Array,
  firstRow: number,
  columns: number,
  { rank, scale, a, b, magnitude }: Awaited<ReturnType<typeof factorsOf>>,
): void {
  const delta = new Float32Array(columns);
  for (let i = 0; i < values.length / columns; i++) {
    const [row, at] = [firstRow + i, i * columns];
    delta.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = b[row * rank + k];
      if (factor !== 0) { for (let j = 0; j < columns; j++) delta[j] += factor * a[k * columns + j]; }
    }
    let squares = 0;
    for (let j = 0; j < columns; j++) {
      const value = values[at + j] += Math.fround(delta[j] * scale);
      squares += value * value;
    }
    if (!magnitude) continue;
    const factor = Math.fround(magnitude[row] / Math.fround(Math.sqrt(squares)));
    for (let j = 0; j < columns; j++) values[at + j] *= factor;
  }
}

/** What to save of a model with merged weights: its files' tensors, in the type that they have there. */
export function mergedSources(model: ModelWeights, adapter: OpenAdapter): TensorSource[] {
  const reader = merged(model, adapter);
  return model.saved.map((tensor) => {
    if ("chunks" in tensor) return tensor;
    const { name, parameter, dtype, shape } = tensor;
    return { name, dtype, shape, chunks: () => chunksOf(reader, parameter, dtype, shape) };
  });
}

async function* chunksOf(
  { readF32 }: TensorReader,
  name: string,
  dtype: FloatDtype,
  shape: readonly number[],
): AsyncGenerator<Uint8Array> {
  const elements = shape.reduce((product, n) => product * n, 1);
  for (let at = 0; at < elements; at += PIECE) {
    yield fromF32(await readF32(name, at, Math.min(PIECE, elements - at)), dtype);
  }
}
