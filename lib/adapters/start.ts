/** What adapters begin with. */
import type { Net } from "../graph/net.ts";
import { uniform } from "../random.ts";
import { overlaid, type TensorReader } from "../safetensors/read.ts";
import { type ParameterSpec, shapeOfPart } from "../parameters/parameter.ts";

/**
 * A model's weights with new adapters, by the names of `namesOfAdapter`, as PEFT makes them: first factors uniform
 * within 1 / sqrt(columns) (Kaiming's with a = sqrt(5)), second ones 0; magnitudes wait for
 * `Decoder.measureMagnitudes`.
 */
export function withNewAdapters(weights: TensorReader, net: Net, seed: number): TensorReader {
  const makers = new Map<string, { shape: number[]; make: () => Promise<Float32Array<ArrayBuffer>> }>();
  net.linearWeights.forEach((weight, index) => {
    if (!weight.adapter) return;
    const { a, b, magnitude } = weight.adapter;
    const add = (
      spec: ParameterSpec | undefined,
      make: (elements: number, i: number) => Promise<Float32Array<ArrayBuffer>>,
    ) =>
      spec?.parts.forEach((part, i) => {
        const shape = shapeOfPart(spec, part);
        const elements = shape.reduce((product, n) => product * n, 1);
        makers.set(part.name, { shape, make: () => make(elements, i) });
      });
    add(a, (elements, i) => {
      const next = uniform(seed, index, i);
      const bound = 1 / Math.sqrt(weight.columns);
      return Promise.resolve(Float32Array.from({ length: elements }, () => (2 * next() - 1) * bound));
    });
    add(b, (elements) => Promise.resolve(new Float32Array(elements)));
    add(magnitude, (rows) => Promise.resolve(new Float32Array(rows).fill(1)));
  });
  return overlaid(weights, {
    tensors: new Map([...makers].map(([name, { shape }]) => [name, infoOf(name, shape)])),
    readF32: async (name, first = 0, count) => {
      const values = await makers.get(name)!.make();
      return values.slice(first, count === undefined ? undefined : first + count);
    },
    readBytes: () => Promise.reject(new Error("new adapters are read as float32")),
  });
}

/** A tensor that is in no file. */
export const infoOf = (name: string, shape: number[]) => ({
  ...{ name, shape, dtype: "F32" as const, file: "", start: 0 },
  end: 4 * shape.reduce((product, n) => product * n, 1),
});
