/** What stands between steps and takes its time. */
export type Pause = "evaluation" | "checkpoint";

/** How much less each step counts than the one after it: some twenty of them are looked back on. */
const DECAY = 0.95;

/** How long a run will still take: by its last steps, and by what its evaluations and checkpoints took. */
export class TimeLeft {
  readonly #steps = { count: 0, seconds: 0 };
  readonly #pauses: Record<Pause, { left: number; seconds: number }>;

  /** @param pauses how many there are still to come. */
  constructor(pauses: Readonly<Record<Pause, number>>) {
    this.#pauses = {
      evaluation: { left: pauses.evaluation, seconds: 0 },
      checkpoint: { left: pauses.checkpoint, seconds: 0 },
    };
  }

  /** Takes the time of the next `count` steps. */
  addSteps(count: number, seconds: number): void {
    const kept = DECAY ** count;
    this.#steps.count = this.#steps.count * kept + count;
    this.#steps.seconds = this.#steps.seconds * kept + seconds;
  }

  /** Takes the time of a pause: `isExpected` where it is one of those that were to come. */
  addPause(pause: Pause, seconds: number, isExpected: boolean): void {
    const found = this.#pauses[pause];
    found.seconds = seconds;
    if (isExpected) found.left--;
  }

  /** Seconds that `steps` more steps take, and the pauses among them, those alone of which one was measured. */
  of(steps: number): number | undefined {
    const { count, seconds } = this.#steps;
    if (count === 0) return undefined;
    const { evaluation, checkpoint } = this.#pauses;
    return steps * seconds / count + Math.max(0, evaluation.left) * evaluation.seconds +
      Math.max(0, checkpoint.left) * checkpoint.seconds;
  }
}
