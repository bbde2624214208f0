import type { Batch } from "../batch/pack.ts";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { FunctionLoss, LossValue, ResponseSums } from "./loss.ts";

const NOT_A_NUMBER: LossValue = { value: NaN, dChosen: NaN, dRejected: NaN };

/**
 * A loss in TypeScript of the pairs of a batch. Where a sum is not finite the loss is not a number, as the kernel has
 * it.
 *
 * @param results those of the batch's forward pass, four floats a pair: the first, the loss, is written.
 * @param batch the labels of each pair, of chosen from, to, and of rejected from, to; and its references.
 * @param whereOf the place of a pair's row.
 * @throws {UserError} for the first pair whose finite sums give what is no finite number.
 */
export function lossOnHost(
  loss: FunctionLoss,
  results: Float32Array,
  { labelsOfPair, references }: Pick<Batch, "labelsOfPair" | "references">,
  whereOf: (pair: number) => string,
): LossValue[] {
  return Array.from({ length: results.length / 4 }, (_, pair) => {
    const [from, to, rejectedFrom, rejectedTo] = labelsOfPair.subarray(4 * pair, 4 * pair + 4);
    const [reference, otherReference] = references.subarray(4 * pair);
    const chosen = { sum: results[4 * pair + 1], labels: to - from, reference };
    const rejected = {
      sum: results[4 * pair + 2],
      labels: rejectedTo - rejectedFrom,
      reference: otherReference,
    };
    const found = Number.isFinite(chosen.sum + rejected.sum)
      ? valueOf(loss, chosen, rejected, whereOf(pair))
      : NOT_A_NUMBER;
    results[4 * pair] = found.value;
    return found;
  });
}

/** @throws {UserError} where a part of the result is no finite number of float32, which the passes compute with. */
export function valueOf(
  loss: FunctionLoss,
  chosen: ResponseSums,
  rejected: ResponseSums,
  where: string,
): LossValue {
  const found = loss.of(chosen, rejected);
  const isNumber = (value: unknown) => typeof value === "number" && Number.isFinite(Math.fround(value));
  if ([found?.value, found?.dChosen, found?.dRejected].every(isNumber)) return found;
  // JSON has no NaN.
  const shown = typeof found === "object" && found !== null
    ? ["value", "dChosen", "dRejected"].map((name) => `${name}: ${String(found[name as keyof LossValue])}`)
      .join(", ")
    : show(found);
  throw new UserError(
    `loss ${loss.name}: ${where}: expected finite numbers of float32 {value, dChosen, dRejected}, found ` +
      `${shown}, where ` +
      describeSums(chosen, rejected),
    1,
    "LOSS_INVALID",
  );
}

/** For messages. */
export const describeSums = (chosen: ResponseSums, rejected: ResponseSums): string =>
  `chosen is ${chosen.sum} over ${chosen.labels} labels and rejected ${rejected.sum} over ${rejected.labels}`;
