import type { FloatDtype } from "../safetensors/dtype.ts";
import type { TensorSource } from "../safetensors/write.ts";

/** A tensor of the source's files that is a parameter: under which name and type it is saved again. */
export interface ParameterTensor {
  /** Under which it is saved. */
  name: string;
  /** The parameter's name in transformers' class. */
  parameter: string;
  /** Of its elements, where it is saved. */
  dtype: FloatDtype;
  /** As it is saved. */
  shape: number[];
}

/** A tensor of the result: a parameter's, or, of a multimodal model's other parts, as it is in the source's files. */
export type SavedTensor = ParameterTensor | TensorSource;
