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
   * the natural logarithms of its tokens' probabilities, and the number of its tokens, `labels`, the end token with
   * them. A `Loss` has its `value`, which a run makes small, and its derivatives by the two sums, `d_chosen` and
   * `d_rejected`. All are `f32`. `exp_accurate` is more exact than most drivers' `exp`.
   */
  wgsl: string;
  /**
   * Where false, rejected responses are neither read nor run: their sum and number of labels are 0. By default true.
   */
  usesRejected?: boolean;
  /** Whether it looks at what a reference model says of the responses; by default it does not. */
  usesReference?: boolean;
  /**
   * Whether its data are single responses that were judged, as KTO's: `chosen` is the response, `desirable` or not, and
   * `rejected` another example's after its prompt. By default they are pairs.
   */
  isUnpaired?: boolean;
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
   * The loss of one pair from its responses, each the sum of its tokens' log-probabilities and the number of its
   * tokens, with its derivatives by the two sums. Its source text and what it gives at some places go into a run's
   * checkpoints, so that another function does not go on with them.
   */
  of: (
    chosen: { sum: number; labels: number },
    rejected: { sum: number; labels: number },
  ) => { value: number; dChosen: number; dRejected: number };
  /** As `WgslLoss`'s. */
  usesRejected?: boolean;
  /** As `WgslLoss`'s. */
  usesReference?: boolean;
  /** As `WgslLoss`'s. */
  isUnpaired?: boolean;
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

/** Whether its data are single responses that were judged. */
export const isUnpaired = ({ isUnpaired = false }: Loss): boolean => isUnpaired;

/** Whether the loss looks at a reference model's sums. */
export const usesReference = ({ usesReference = false }: Loss): boolean => usesReference;

/** The WGSL that the passes are compiled with; of a function, one that leaves the sums to it. */
export const wgslOf = (loss: Loss): string =>
  "wgsl" in loss
    ? loss.wgsl
    : "fn preference_loss(chosen: Response, rejected: Response) -> Loss { return Loss(0.0, 0.0, 0.0); }\n";

/** A loss that runs between the passes, where it is one. */
export const functionOf = (loss: Loss): FunctionLoss | undefined => "of" in loss ? loss : undefined;

/** What a loss is, in one text. */
export const sourceOf = (loss: Loss): string =>
  JSON.stringify([usesRejected(loss), "wgsl" in loss ? loss.wgsl : String(loss.of)]);
