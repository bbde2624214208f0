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
   * WGSL that defines `fn preference_loss(chosen: Response, rejected: Response) -> Loss`. A `Response` has the `sum` of
   * the natural logarithms of its tokens' probabilities, the number of its tokens, `labels`, the end token with them, and
   * `reference`, that sum under the reference model where `usesReference` is set. A `Loss` has its `value`, which a run
   * makes small, and its derivatives by the two sums, `d_chosen` and `d_rejected`. All are `f32`. `exp_accurate` is more
   * exact than most drivers' `exp`.
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
   * The loss of one pair from its responses, each the sum of its tokens' log-probabilities, the number of its tokens, and
   * that sum under the reference model where there is one, with its derivatives by the two sums. Its source text and what
   * it gives at some places go into a run's checkpoints, so that another function does not go on with them.
   */
  of: (
    chosen: { sum: number; labels: number; reference: number },
    rejected: { sum: number; labels: number; reference: number },
  ) => { value: number; dChosen: number; dRejected: number };
  /** As `WgslLoss`'s. */
  usesRejected?: boolean;
  /** As `WgslLoss`'s. */
  usesReference?: boolean;
}

/** What a loss sees of a response. */
export type ResponseSums = Parameters<FunctionLoss["of"]>[0];

/** The value of a pair's loss, and its derivatives. */
export type LossValue = ReturnType<FunctionLoss["of"]>;

/**
 * A loss of a pair as a function of its responses' summed log-probabilities. At the start of a run its derivatives are
 * compared with finite differences of its values.
 */
export type Loss = WgslLoss | FunctionLoss;

/** Whether rejected responses are read and run. */
export const usesRejected = ({ usesRejected = true }: Loss): boolean => usesRejected;

/** Whether the loss looks at a reference model's sums. */
export const usesReference = ({ usesReference = false }: Loss): boolean => usesReference;

/**
 * Whether the loss reads single responses that were judged, as KTO does: rows with `completion` and `label`, or pairs
 * taken apart. `chosen` is then the response, and `rejected` another one after its prompt.
 */
export const isJudged = ({ isJudged = false }: { name: string; isJudged?: boolean }): boolean => isJudged;

/** The WGSL that the passes are compiled with; of a function, one that leaves the sums to it. */
export const wgslOf = (loss: Loss): string =>
  "wgsl" in loss
    ? loss.wgsl
    : "fn preference_loss(chosen: Response, rejected: Response) -> Loss { return Loss(0.0, 0.0, 0.0); }\n";

/** A loss that runs between the passes, where it is one. */
export const functionOf = (loss: Loss): FunctionLoss | undefined => "of" in loss ? loss : undefined;

/** What a loss is, in one text. */
export const sourceOf = (loss: Loss): string =>
  JSON.stringify([
    usesRejected(loss),
    ...usesReference(loss) ? ["reference"] : [],
    "wgsl" in loss ? loss.wgsl : String(loss.of),
  ]);
