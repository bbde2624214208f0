/**
 * A loss of a pair as a function of its responses' summed log-probabilities. `wgsl` defines
 * `fn preference_loss(chosen: Response, rejected: Response) -> Loss`, where a `Response` has the sum of its labels'
 * log-probabilities (`sum`) and their number (`labels`), and a `Loss` the `value` and its derivatives by the two sums
 * (`d_chosen`, `d_rejected`).
 */
export interface Loss {
  name: string;
  wgsl: string;
  /** Where false, rejected responses are neither read nor run. */
  usesRejected: boolean;
}
