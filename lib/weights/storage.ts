import type { StorageType } from "../../kernels/storage.ts";
import type { ParameterSpec } from "../parameters/parameter.ts";
import type { TensorReader } from "../safetensors/read.ts";

/** The type in which all matrices of a checkpoint are, as far as kernels read it; float32 where they differ. */
export function storageOf(
  { tensors }: Pick<TensorReader, "tensors">,
  parameters: readonly ParameterSpec[],
): StorageType {
  const matrices = parameters.filter(({ kind }) => kind === "matrix").flatMap(({ parts }) => parts);
  const [dtype, ...others] = new Set(matrices.map(({ name }) => tensors.get(name)?.dtype));
  return others.length > 0 ? "f32" : dtype === "BF16" ? "bf16" : dtype === "F16" ? "f16" : "f32";
}
