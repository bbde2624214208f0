import type { TrainConfig } from "../config/schema.ts";
import type { Parameters } from "../parameters/parameters.ts";
import type { TensorReader } from "../safetensors/read.ts";

/**
 * A line on weights that are rounded when they are read: those of float32 and float16 files that the optimizer keeps
 * in bfloat16.
 */
export function roundedWeights(
  { optim }: Pick<TrainConfig, "optim">,
  parameters: Parameters,
  { tensors }: Pick<TensorReader, "tensors">,
): string | undefined {
  const rounded = parameters.names.filter((name) =>
    parameters.isTrained(name) && parameters.dtype(name) === "BF16" && tensors.get(name)!.dtype !== "BF16"
  );
  if (rounded.length === 0) return;
  const [first] = rounded;
  return `${optim} keeps weights in bfloat16: ${rounded.length} tensors of the files, ${first} of ${
    tensors.get(first)!.dtype
  } first, are rounded to the nearest as they are read`;
}
