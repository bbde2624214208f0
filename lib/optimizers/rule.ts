/** What an optimizer is here: a rule by which a kernel makes new weights of gradients and moments. */

export type MomentKind = "first" | "second";

/** One float that is kept of each weight from step to step. */
export interface Moment {
  kind: MomentKind;
  /** What PyTorch's optimizers call it. */
  name: string;
  /** Whether it is ever below 0: which of the dynamic maps its bytes are by. */
  isSigned: boolean;
  /** How it becomes bfloat16. */
  rounding: "nearest" | "chance";
}

export interface Hyperparameters {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/** A file each: `adamw.ts`, `lion.ts`. */
export interface UpdateRule {
  /** Of its kernels, in profiles. */
  name: string;
  moments: readonly Moment[];
  /** WGSL of `Figures`, `moments_after` and `change_of`, as `kernels/optimizer_step.wgsl` says. */
  source: string;
  /** The members of `Figures` at update `step` (from 1). */
  figures(hyperparameters: Hyperparameters, step: number, learningRate: number): number[];
}
