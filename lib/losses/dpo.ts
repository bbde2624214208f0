/**
 * The frame of DPO and of the losses that TRL's DPOTrainer has beside it: they look at how far a response's
 * log-probability is from the reference's.
 */
import functions from "../../kernels/loss_functions.wgsl" with { type: "text" };
import { constants, literal, type LossDefinition, type LossKeys } from "./definition.ts";

/** What one of them says of itself. */
type Own = Pick<LossDefinition, "name" | "title" | "url" | "formula"> & {
  /** Of `beta` and those that every one reads. */
  reads?: readonly (keyof LossKeys)[];
};

/**
 * The score of a response, f'(ratio) of its probability to the reference's, and the slope of the score: f-DPO (arXiv
 * 2309.16240), of which the usual log-ratio is the one of the reverse KL divergence.
 */
function scoreText({ fDivergenceType, fAlphaDivergenceCoef }: LossKeys): string {
  // alpha's limit at 1 is the reverse KL divergence.
  const isLimit = Math.abs(fAlphaDivergenceCoef - 1) < 1e-6;
  const type = fDivergenceType === "alpha_divergence" && isLimit ? "reverse_kl" : fDivergenceType;
  const text = {
    reverse_kl: "return vec2f(t, 1.0);",
    forward_kl: "let e = exp_bounded(-t); return vec2f(1.0 - e, e);",
    js_divergence: "return vec2f(log(2.0) + log_sigmoid(t), sigmoid(-t));",
    // Bounded as TRL bounds it, and flat beyond.
    alpha_divergence: `let u = f32(${literal(fAlphaDivergenceCoef - 1)}) * t;
  let e = exp_accurate(min(u, 80.0));
  return vec2f((e - 1.0) / f32(${literal(fAlphaDivergenceCoef - 1)}), select(e, 0.0, u > 80.0));`,
  }[type];
  return `fn score(response: Response) -> vec2f {\n  let t = response.sum - response.reference;\n  ${text}\n}\n`;
}

/** Keys that every one of them reads. */
const SHARED = ["beta", "ldAlpha", "referenceFree"] as const;

const frame = (
  own: Own,
  reads: readonly (keyof LossKeys)[],
  wgsl: (keys: LossKeys) => string,
): LossDefinition => ({
  ...own,
  reads: [...SHARED, ...reads, ...own.reads ?? []],
  usesReference: true,
  wgsl: (keys) => {
    const { beta, labelSmoothing, discopopTau } = keys;
    return functions + constants({ beta, labelSmoothing, discopopTau }) + wgsl(keys);
  },
  reward: ({ beta }) => ({ sum, reference }) => beta * (sum - reference),
});

/** Those whose reference cancels in the difference of two scores: only of them there are other divergences. */
const DIVERGENCES = ["useWeighting", "fDivergenceType", "fAlphaDivergenceCoef"] as const;

/**
 * A loss of the difference of the two scores.
 * @param difference WGSL of its value and slope, a vec2f of `delta`, the difference.
 */
export const ofDifference = (own: Own, difference: string): LossDefinition =>
  frame(own, DIVERGENCES, (keys) =>
    `${scoreText(keys)}fn of_difference(delta: f32) -> vec2f {
  ${difference}
}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let c = score(chosen);
  let r = score(rejected);
  let f = of_difference(c.x - r.x);
  return Loss(f.x, f.y * c.y, -f.y * r.y);
}
`);

/** A loss of the difference of the two scores, each divided by the number of its response's tokens. */
export const ofMeanDifference = (own: Own, difference: string): LossDefinition =>
  frame(own, DIVERGENCES, (keys) =>
    `${scoreText(keys)}fn of_difference(delta: f32) -> vec2f {
  ${difference}
}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let c = score(chosen) / chosen.labels;
  let r = score(rejected) / rejected.labels;
  let f = of_difference(c.x - r.x);
  return Loss(f.x, f.y * c.y, -f.y * r.y);
}
`);

/**
 * A loss of both log-ratios.
 * @param ratios WGSL that makes a Loss of `c` and `r`, beta times the log-ratios of chosen and rejected; derivatives
 * are by these.
 */
export const ofRatios = (own: Own, ratios: string): LossDefinition =>
  frame(own, ["useWeighting"], () =>
    `fn of_ratios(c: f32, r: f32) -> Loss {
  ${ratios}
}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let f = of_ratios(BETA * (chosen.sum - chosen.reference), BETA * (rejected.sum - rejected.reference));
  return Loss(f.value, BETA * f.d_chosen, BETA * f.d_rejected);
}
`);

/**
 * A loss of the pairs of a batch, sorted: distributions are compared, not pairs (AOT, arXiv 2406.05882).
 * @param first WGSL of what is sorted, of `at`: the sums of chosen and rejected, and then the reference's of both.
 * @param second what is sorted beside it.
 * @param of says which derivatives follow: of `first` alone, whose every pair has both sums; or of both.
 */
export const ofSorted = (own: Own, first: string, second: string, of: "first" | "both"): LossDefinition =>
  frame(
    { ...own, reads: ["labelSmoothing"] },
    [],
    () =>
      `fn first_of(pair: u32) -> f32 { let at = batch_sums(pair); return ${first}; }
fn second_of(pair: u32) -> f32 { let at = batch_sums(pair); return ${second}; }
// How many come before it; of equals the one with the lower number.
fn first_rank(pair: u32) -> u32 {
  var rank = 0u;
  for (var p = 0u; p < rows.count; p += 1u) {
    let d = first_of(p) - first_of(pair);
    rank += select(0u, 1u, d < 0.0 || (d == 0.0 && p < pair));
  }
  return rank;
}
fn second_rank(pair: u32) -> u32 {
  var rank = 0u;
  for (var p = 0u; p < rows.count; p += 1u) {
    let d = second_of(p) - second_of(pair);
    rank += select(0u, 1u, d < 0.0 || (d == 0.0 && p < pair));
  }
  return rank;
}
fn first_at(rank: u32) -> f32 {
  for (var p = 0u; p < rows.count; p += 1u) { if (first_rank(p) == rank) { return first_of(p); } }
  return 0.0;
}
fn second_at(rank: u32) -> f32 {
  for (var p = 0u; p < rows.count; p += 1u) { if (second_rank(p) == rank) { return second_of(p); } }
  return 0.0;
}
fn of_difference(delta: f32) -> vec2f { return logistic(BETA * delta, LABEL_SMOOTHING) * vec2f(1.0, BETA); }
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let f = of_difference(first_of(own_pair) - second_at(first_rank(own_pair)));
  ${
        of === "first"
          ? "return Loss(f.x, f.y, -f.y);"
          : "return Loss(f.x, f.y, -of_difference(first_at(second_rank(own_pair)) - second_of(own_pair)).y);"
      }
}
`,
  );
