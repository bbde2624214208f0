/** What of a run's changes its files lose, where they hold float32 weights in the source's two bytes. */
import type { TensorSource } from "../safetensors/write.ts";
import { roundedTensors, type Trained } from "./tensors.ts";

/** Bytes of a tensor that are looked at: its first ones stand for it. */
const LOOKED_AT = 2 ** 18;

/** Elements that were looked at as they were written. */
export interface Rounding {
  /** The type that they are rounded to; undefined where none are. */
  dtype?: string;
  elements: number;
  /** Those that are written as the source has them: their change was less than the type tells apart. */
  same: number;
}

/**
 * The weights of `weightSources`, which compare with the source, as they are written, what is rounded.
 *
 * @returns with them the count, which is whole once all are written.
 */
export function watchRounding(
  trained: Trained,
  sources: readonly TensorSource[],
): { sources: TensorSource[]; found: Rounding } {
  const { source } = trained;
  const found: Rounding = { elements: 0, same: 0 };
  if (!source) return { sources: [...sources], found };
  const parameters = new Map(roundedTensors(trained).map(({ name, parameter }) => [name, parameter]));
  const watched = sources.map((tensor): TensorSource => {
    const parameter = parameters.get(tensor.name);
    if (parameter === undefined) return tensor;
    return {
      ...tensor,
      chunks: async function* () {
        let isFirst = true;
        for await (const chunk of tensor.chunks()) {
          if (isFirst) {
            const written = chunk.subarray(0, LOOKED_AT);
            const before = await source.readBytes(parameter, 0, written.length);
            found.dtype = tensor.dtype;
            found.elements += written.length / 2;
            for (let i = 0; i < written.length; i += 2) {
              if (written[i] === before[i] && written[i + 1] === before[i + 1]) found.same++;
            }
          }
          isFirst = false;
          yield chunk;
        }
      },
    };
  });
  return { sources: watched, found };
}

/** What is to be said of it, where anything was rounded. */
export const describeRounding = ({ dtype, elements, same }: Rounding): string | undefined =>
  dtype === undefined
    ? undefined
    : `saved in ${dtype} as the source is: ${
      Number((100 * same / elements).toFixed(1))
    } % of the weights are those that the run began with, since ${dtype} does not tell their change apart; ` +
      "a checkpoint keeps them in float32";
