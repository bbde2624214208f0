import { literal, type LossDefinition, type ResponseSums } from "./definition.ts";

export type { ResponseSums } from "./definition.ts";

/**
 * A loss in WGSL. It costs nothing: a kernel runs it between the passes.
 *
 * @example The mean log-probabilities' difference under a logistic loss (SimPO without its margin)
 * ```ts
 * import type { WgslLoss } from "./loss.ts";
 * const logistic: WgslLoss = {
 *   name: "logistic",
 *   wgsl: `fn preference_loss(chosen: Response, rejected: Response) -> Loss {
 *     let x = chosen.sum / chosen.labels - rejected.sum / rejected.labels;
 *     let e = exp_accurate(-abs(x));
 *     let p = select(1.0, e, x > 0.0) / (1.0 + e);
 *     return Loss(max(-x, 0.0) + log(1.0 + e), -p / chosen.labels, p / rejected.labels);
 *   }`,
 * };
 * ```
 */
export interface WgslLoss {
  /** Letters, digits, `_`, `-` and `.`: what the model card and the log call it. */
  name: string;
  /**
   * WGSL that defines `fn preference_loss(chosen: Response, rejected: Response) -> Loss`. A `Response` has the `sum`
   * of the natural logarithms of its tokens' probabilities, the number of its tokens, `labels`, the end token with
   * them, and `reference`, that sum under the reference model where `usesReference` is set. A `Loss` has its `value`,
   * which a run makes small, and its derivatives by the two sums, `d_chosen` and `d_rejected`. All are `f32`.
   * `exp_accurate` is more exact than most drivers' `exp`.
   */
  wgsl: string;
  /**
   * Where false, rejected responses are neither read nor run: their sum and number of labels are 0. By default true.
   */
  usesRejected?: boolean;
  /**
   * Whether the loss looks at the sums of a reference model, the one that the run begins with or `ref_model`: they are
   * computed before the first step. By default they are 0, and nothing is computed.
   */
  usesReference?: boolean;
  /** What is logged as the reward of a response; by default its mean log-probability, as SimPER publishes it. */
  reward?: (response: ResponseSums) => number;
}

/**
 * A loss in TypeScript. Each forward pass is waited for, so that its sums can be read: for trying something out, where
 * WGSL costs no wait.
 *
 * @example SimPER
 * ```ts
 * import type { FunctionLoss } from "./loss.ts";
 * const mine: FunctionLoss = {
 *   name: "my-simper",
 *   of: (chosen, rejected) => {
 *     const [c, r] = [chosen, rejected].map(({ sum, labels }) => Math.exp(sum / labels));
 *     return { value: r - c, dChosen: -c / chosen.labels, dRejected: r / rejected.labels };
 *   },
 * };
 * ```
 */
export interface FunctionLoss {
  /** As `WgslLoss`'s. */
  name: string;
  /**
   * The loss of one pair from its responses, each the sum of its tokens' log-probabilities, the number of its tokens,
   * and that sum under the reference model where there is one, with its derivatives by the two sums. Its source text
   * and what it gives at some places go into a run's checkpoints, so that another function does not go on with them.
   */
  of: (chosen: ResponseSums, rejected: ResponseSums) => LossValue;
  /** As `WgslLoss`'s. */
  usesRejected?: boolean;
  /** As `WgslLoss`'s. */
  usesReference?: boolean;
  /** As `WgslLoss`'s. */
  reward?: (response: ResponseSums) => number;
}

/**
 * A loss that is there, by its `loss_type`. Beside what a script's own may have it can look at the whole micro-batch
 * (`batch_sums`) and at labels one by one.
 */
export interface BuiltInLoss extends WgslLoss {
  /** See `isJudged`. */
  isJudged: boolean;
  /** What the log has beside rewards, by TRL's names. */
  figures: (chosen: ResponseSums, rejected: ResponseSums) => Record<string, number>;
  /**
   * What it is made of.
   *
   * @internal
   */
  definitions: readonly Pick<LossDefinition, "name" | "title" | "url" | "formula">[];
  /** What log-probabilities past the length of the shorter response are multiplied by (LD-DPO, arXiv 2409.06411). */
  ldAlpha?: number;
  /** Whether a pair counts by how probable it is for the policy (WPO, arXiv 2406.11827, eq. 2). */
  useWeighting?: boolean;
  /** The weight of the probability of chosen's end token (REFA, arXiv 2412.16378). */
  refaLambda?: number;
}

/** The value of a pair's loss, and its derivatives. */
export interface LossValue {
  /** What a run makes small. */
  value: number;
  /** By the sum of chosen. */
  dChosen: number;
  /** By that of rejected. */
  dRejected: number;
}

/**
 * A loss of a pair as a function of its responses' summed log-probabilities. At the start of a run its derivatives are
 * compared with finite differences of its values.
 */
export type Loss = WgslLoss | BuiltInLoss | FunctionLoss;

/** Whether rejected responses are read and run. */
export const usesRejected = ({ usesRejected = true }: Loss): boolean => usesRejected;

/** Whether the loss looks at a reference model's sums. */
export const usesReference = ({ usesReference = false }: Loss): boolean => usesReference;

/**
 * Whether the loss reads single responses that were judged, as KTO does: rows with `completion` and `label`, or pairs
 * taken apart. `chosen` is then the response, and `rejected` another one after its prompt.
 */
export const isJudged = ({ isJudged = false }: { name: string; isJudged?: boolean }): boolean => isJudged;

/** What one row of a run's data is to its loss. */
export const unitOf = (loss: { name: string; isJudged?: boolean }): "responses" | "pairs" =>
  isJudged(loss) ? "responses" : "pairs";

/** The rewards that are logged. */
export const rewardOf = (
  { reward = ({ sum, labels }) => sum / labels }: Loss,
): Required<WgslLoss>["reward"] => reward;

/** What is logged beside them. */
export const figuresOf = (loss: Loss): BuiltInLoss["figures"] =>
  "figures" in loss ? loss.figures : () => ({});

/** The WGSL that the passes are compiled with; of a function, one that leaves the sums to it. */
export function wgslOf(loss: Loss): string {
  const { ldAlpha = 1, useWeighting = false, refaLambda = 0 } = "definitions" in loss ? loss : {};
  const text = "wgsl" in loss
    ? loss.wgsl
    : "fn preference_loss(chosen: Response, rejected: Response) -> Loss { return Loss(0.0, 0.0, 0.0); }\n";
  return `const LD_ALPHA: f32 = ${literal(ldAlpha)};
const USES_WEIGHTING: bool = ${useWeighting};
const REFA_LAMBDA: f32 = ${literal(refaLambda)};
// By what a label's log-probability counts (LD-DPO): begin is its response's first label, shorter the labels of the
// shorter one.
fn share(label: u32, begin: u32, shorter: u32) -> f32 { return select(1.0, LD_ALPHA, label - begin >= shorter); }
${text}`;
}

/** Whether WGSL that `wgslOf` gave looks at the other pairs of its micro-batch. */
export const usesBatch = (wgsl: string): boolean => /\bbatch_sums\b/.test(wgsl);

/** Whether it looks at the sums of squared probabilities. */
export const usesWeighting = (wgsl: string): boolean => wgsl.includes("USES_WEIGHTING: bool = true");

/** A loss that runs between the passes, where it is one. */
export const functionOf = (loss: Loss): FunctionLoss | undefined => "of" in loss ? loss : undefined;

/** What a loss is, in one text. */
export const sourceOf = (loss: Loss): string =>
  JSON.stringify([
    usesRejected(loss),
    ...usesReference(loss) ? ["reference"] : [],
    "of" in loss ? String(loss.of) : "definitions" in loss ? wgslOf(loss) : loss.wgsl,
  ]);
