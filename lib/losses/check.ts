/** Whether the derivatives of a loss are those of its values. */
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { describeSums, valueOf } from "./on_host.ts";
import {
  type FunctionLoss,
  type Loss,
  type LossValue,
  type ResponseSums,
  usesReference,
  usesRejected,
} from "./loss.ts";
import { losses } from "./losses.ts";

/** Sums, label counts and references of short and long responses, likely and unlikely, with either ahead. */
const PROBES: readonly [chosen: ResponseSums, rejected: ResponseSums][] = [
  [{ sum: -12.53, labels: 7, reference: -13.1 }, { sum: -21.31, labels: 9, reference: -19.87 }],
  [{ sum: -40.72, labels: 31, reference: -38.35 }, { sum: -35.27, labels: 24, reference: -36.4 }],
  [{ sum: -2.34, labels: 1, reference: -2.9 }, { sum: -4.19, labels: 2, reference: -4.48 }],
  [{ sum: -310.9, labels: 120, reference: -318.2 }, { sum: -262.3, labels: 115, reference: -251.6 }],
  [{ sum: -9.17, labels: 40, reference: -11.06 }, { sum: -31.41, labels: 44, reference: -29.22 }],
];

/** What differs by how exactly a loss is computed. */
interface Exactness {
  /** Of what is computed, relative. */
  epsilon: number;
  /** By how much the mean log-probability is changed. */
  step: number;
  /** How far a derivative may be off, relative. */
  tolerance: number;
}
/** Five points have an error of step^4, and rounding one of epsilon / step: the step is where they meet. */
const DOUBLE: Exactness = { epsilon: 2 ** -52, step: 1e-3, tolerance: 1e-6 };
const SINGLE: Exactness = { epsilon: 2 ** -23, step: 2 ** -4, tolerance: 1e-3 };
/** A driver's exp and log are off by some units in the last place, and so may be a sum of a few of them. */
const ULPS = 16;

/** Changes of a sum, in steps: two sets of five points without the middle one, and one that is half as wide. */
const OFFSETS = [-2, -1, -0.5, 0, 0.5, 1, 2];

/** A place where a loss is looked at. */
type Sums = readonly [chosen: ResponseSums, rejected: ResponseSums];

/**
 * Refuses a loss that is none.
 * @throws {UserError} (status 2)
 */
export function checkForm(loss: Loss): void {
  const problem = formProblem(loss);
  if (problem) throw new UserError(`loss: ${problem}`, 2, "LOSS_INVALID");
}

function formProblem(loss: Loss): string | undefined {
  if (typeof loss !== "object" || loss === null) {
    return `expected {name, wgsl} or {name, of}, found ${show(loss)}`;
  }
  const { name } = loss;
  if (typeof name !== "string" || !/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) {
    return `name: expected up to 64 letters, digits, "_", "-" and ".", found ${show(name)}`;
  }
  const own = Object.hasOwn(losses, name) ? losses[name as keyof typeof losses] : undefined;
  if (own && own !== loss) return `name: ${name} is the name of a loss that is there: give it another`;
  const wgsl = "wgsl" in loss ? loss.wgsl : undefined;
  const of = "of" in loss ? loss.of : undefined;
  if ((typeof wgsl === "string") === (typeof of === "function")) {
    return `${name}: expected either wgsl, a text, or of, a function, beside name; found ${
      show(Object.keys(loss))
    }`;
  }
  if (wgsl !== undefined && !/\bfn\s+preference_loss\s*\(/.test(wgsl)) {
    return `${name}: wgsl: expected fn preference_loss(chosen: Response, rejected: Response) -> Loss`;
  }
}

/**
 * Compares the derivatives of a loss in TypeScript with finite differences of its values.
 *
 * @returns what it gives at the places of the trial: all that is known of a function beside its text.
 * @throws {UserError} with both numbers, and for what is not finite.
 */
export function checkFunction(loss: FunctionLoss): LossValue[] {
  const places = placesOf(loss, DOUBLE.step);
  const found = places.map(([c, r]) => valueOf(loss, c, r, "on trial"));
  compare(loss, places, found, DOUBLE);
  return found;
}

/** Whether a loss that was on trial trains nothing: its derivatives are 0 wherever it was tried. */
export const isFlat = (found: readonly LossValue[]): boolean =>
  found.every(({ dChosen, dRejected }) => dChosen === 0 && dRejected === 0);

/**
 * Compares the derivatives of a loss in WGSL with finite differences of its values, as a kernel computes them.
 *
 * @param run gives what the loss is of each of the sums.
 * @returns what it gives at the places of the trial.
 * @throws {UserError} with both numbers, and for what is not finite.
 */
export async function checkWgsl(
  loss: Loss,
  run: (sums: Float32Array) => Promise<Float32Array>,
): Promise<LossValue[]> {
  // What the kernel is given is rounded, and so is the distance between two of them.
  const places = placesOf(loss, SINGLE.step).map((sums) =>
    sums.map((response) => ({ ...response, sum: Math.fround(response.sum) })) as unknown as Sums
  );
  const given = places.flat().flatMap(({ sum, labels, reference }) => [sum, labels, reference, 0]);
  const all = await run(Float32Array.from(given));
  const found = places.map(([chosen, rejected], i) => {
    const [value, dChosen, dRejected] = all.subarray(4 * i);
    return valueOf({ ...loss, of: () => ({ value, dChosen, dRejected }) }, chosen, rejected, "on trial");
  });
  compare(loss, places, found, SINGLE);
  return found;
}

/** Every probe with each of its sums changed by each of the offsets. */
function placesOf(loss: Loss, step: number): Sums[] {
  return PROBES.flatMap(([chosen, rejected]) =>
    sides(loss).flatMap((side) =>
      OFFSETS.map((offset): Sums => {
        const at = (of: "chosen" | "rejected", { sum, labels, reference }: ResponseSums): ResponseSums => ({
          sum: of === side ? sum + offset * step * labels : sum,
          labels,
          reference: usesReference(loss) ? reference : 0,
        });
        const none = { sum: 0, labels: 0, reference: 0 };
        return [at("chosen", chosen), usesRejected(loss) ? at("rejected", rejected) : none];
      })
    )
  );
}

const sides = (loss: Loss) => usesRejected(loss) ? ["chosen", "rejected"] as const : ["chosen"] as const;

function compare(
  loss: Loss,
  places: readonly Sums[],
  found: readonly LossValue[],
  { epsilon, tolerance }: Exactness,
): void {
  const names = sides(loss);
  for (let at = 0; at < places.length; at += OFFSETS.length) {
    const side = names[at / OFFSETS.length % names.length];
    const sums = places.slice(at, at + OFFSETS.length).map(([c, r]) => (side === "chosen" ? c : r).sum);
    const [f2, f1, f0, m, g0, g1, g2] = found.slice(at, at + OFFSETS.length).map(({ value }) => value);
    // From 4th-order differences over -2, -1, 1, 2 steps and over half of that.
    const step = (sums[5] - sums[1]) / 2;
    const wide = (8 * (g1 - f1) - (g2 - f2)) / (12 * step);
    const narrow = (8 * (g0 - f0) - (g1 - f1)) / (6 * step);
    const name = side === "chosen" ? "dChosen" : "dRejected";
    const given = found[at + 3][name];
    const largest = Math.max(...[f2, f1, f0, m, g0, g1, g2].map(Math.abs));
    const noise = ULPS * epsilon * (largest + Math.abs(sums[3] * given)) / step;
    const allowed = tolerance * Math.max(Math.abs(given), Math.abs(narrow)) + noise;
    if (Math.abs(given - narrow) <= allowed) continue;
    // At a kink, as a hinge has one, anything between the slopes on its two sides will do. There the slopes keep their
    // distance when the step is halved, which for a smooth loss halves too; or the two differences disagree.
    const slopes = [(g2 - m) / (2 * step), (m - f2) / (2 * step)];
    const distance = Math.abs(slopes[0] - slopes[1]);
    const isKink = distance > allowed &&
      (Math.abs(wide - narrow) > allowed || Math.abs(g1 - 2 * m + f1) / step > 0.75 * distance);
    if (isKink && given >= Math.min(...slopes) - allowed && given <= Math.max(...slopes) + allowed) continue;
    const shown = "wgsl" in loss ? name.replace("dC", "d_c").replace("dR", "d_r") : name;
    throw new UserError(
      `loss ${loss.name}: ${shown}: expected ${narrow}, the slope of its values, found ${given}, where ` +
        describeSums(...places[at + 3]),
      1,
      "LOSS_INVALID",
    );
  }
}
