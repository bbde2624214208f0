/**
 * The largest magnitudes that moments in bytes are shares of: saved and restored beside them, a tensor for each
 * parameter.
 */
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import { MOMENT_BLOCK } from "../gpu/optimizer_operations.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader, type Range } from "../gpu/readback.ts";
import { fromF32 } from "../safetensors/dtype.ts";
import type { TensorReader } from "../safetensors/read.ts";
import type { TensorSource } from "../safetensors/write.ts";
import type { Parameters, TrainedParameter } from "./parameters.ts";

const momentsOf = ({ shape: [, moments] }: Tensor) => moments;

/** Where those of each parameter lie, by its name: of its pieces one after the other, since each is of whole blocks. */
function ranges({ trainedList }: Parameters): Map<string, Range[]> {
  const inBytes = trainedList.filter(({ absmax }) => absmax);
  const rangeOf = ({ absmax, firstScale, rows, spec }: TrainedParameter): Range => ({
    tensor: absmax!,
    firstElement: momentsOf(absmax!) * firstScale,
    count: momentsOf(absmax!) * Math.ceil(rows * spec.columns / MOMENT_BLOCK),
  });
  return new Map(
    [...Map.groupBy(inBytes, ({ spec }) => spec.name)].map(([name, pieces]) => [name, pieces.map(rangeOf)]),
  );
}

function shapeOf(ranges: readonly Range[]): number[] {
  const moments = momentsOf(ranges[0].tensor);
  return [ranges.reduce((sum, { count }) => sum + count, 0) / moments, moments];
}

/** What to save, [blocks, moments], with `prefix` before the parameters' names. */
export function absmaxSources(gpu: Gpu, parameters: Parameters, prefix: string): TensorSource[] {
  const all = ranges(parameters);
  const reader = new BatchedReader(
    gpu,
    [...all].flatMap(([name, ranges]) => ranges.map((range) => ({ name, ...range }))),
  );
  return [...all].map(([name, ranges]) => ({
    name: prefix + name,
    dtype: "F32",
    shape: shapeOf(ranges),
    chunks: async function* () {
      for await (const piece of reader.pieces(name)) yield fromF32(piece, "F32");
    },
  }));
}

/** @throws {UserError} where one of them is not in `saved`, of the file `file`, as `absmaxSources` has it. */
export function checkAbsmax(parameters: Parameters, saved: TensorReader, file: string): void {
  for (const [name, found] of ranges(parameters)) {
    const info = saved.tensors.get(name);
    if (info?.dtype === "F32" && String(info.shape) === String(shapeOf(found))) continue;
    throw new UserError(
      `${file}: expected the largest magnitudes of the moments of ${name}, F32 [${shapeOf(found)}], found ${
        info ? `${info.dtype} [${info.shape}]` : "none"
      }: was it changed?`,
    );
  }
}

/** Uploads what `checkAbsmax` has passed. */
export async function loadAbsmax(gpu: Gpu, parameters: Parameters, saved: TensorReader): Promise<void> {
  for (const [name, found] of ranges(parameters)) {
    let at = 0;
    for (const { tensor, firstElement, count } of found) {
      writeTensor(gpu, tensor, await saved.readF32(name, at, count), firstElement);
      at += count;
    }
  }
}
