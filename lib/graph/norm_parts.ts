/** The parameters of norms: what they are named in a checkpoint, how they lie under each other, and how they begin. */
import type { AttentionShape } from "../../kernels/attention.ts";
import type { HeadWeights, Norm } from "../gpu/norm_operations.ts";
import type { ParameterPart } from "../parameters/parameter.ts";

/** How queries and keys are normed. */
export interface HeadNormOptions extends Pick<Partial<Norm>, "kind" | "onePlus" | "bias"> {
  weights?: HeadWeights["weights"] | "list";
}

/** As transformers begins a norm's weight: Gemma's at 0, where its factor is 1, but Nemotron's LayerNorm at 1. */
const initialWeight = ({ kind, onePlus }: Norm) => onePlus && kind === "rms" ? 0 : 1;

/** The weight of a norm of rows, and its bias under it. */
export function rowNormParts(name: string, how: Norm): ParameterPart[] {
  const weight = { name: `${name}.weight`, rows: 1, initial: initialWeight(how) };
  const bias = { name: `${name}.bias`, rows: 1, initial: 0 };
  return how.bias ? [weight, bias] : [weight];
}

/** The weights of queries and keys, each head's under the other, and their biases under them. */
export function headNormParts(
  names: { q: string; k: string },
  { heads, keyValueHeads, headDim }: AttentionShape,
  how: Norm,
  weights: NonNullable<HeadNormOptions["weights"]>,
): ParameterPart[] {
  const initial = initialWeight(how);
  const parts = [[names.q, heads] as const, [names.k, keyValueHeads] as const].flatMap(([name, count]) => {
    const part = { name: `${name}.weight`, rows: count, initial };
    switch (weights) {
      case "shared":
        return [{ ...part, rows: 1 }];
      case "each":
        return [{ ...part, shape: [count, headDim] }];
      case "list":
        return Array.from({ length: count }, (_, i) => ({ name: `${name}.${i}.weight`, rows: 1, initial }));
      case "whole":
        return [{ ...part, shape: [count * headDim] }];
    }
  });
  const biases = parts.map((part) => ({ ...part, name: part.name.replace(/weight$/, "bias"), initial: 0 }));
  return how.bias ? [...parts, ...biases] : parts;
}
