/** What has to be kept of a `CollapseAlarm` between the parts of a run. */
export interface CollapseState {
  /** Sums over the first pairs of the run. */
  start: Sums;
  /** Sums of the last steps, the newest last. */
  recent: Sums[];
  isRaised: boolean;
  alarms: Collapse[];
}

interface Sums {
  pairs: number;
  chosen: number;
  rejected: number;
}

/** How far the mean log-probabilities of a token had fallen when the alarm was raised, in nats. */
export interface Collapse {
  step: number;
  chosen: number;
  rejected: number;
}

/** Pairs that a mean is taken over, at least: the rewards of single pairs differ by about half a nat. */
export const COLLAPSE_PAIRS = 64;
/** Nats a token: the probability of a token has halved. */
export const COLLAPSE_BOUND = Math.log(2);

/**
 * Watches for a collapse: chosen responses become improbable together with the rejected ones. It is raised where the
 * mean log-probabilities of a token of both (SimPER's rewards) over the last 64 pairs have fallen below those of the
 * first 64 by more than ln 2 nats, and again only after chosen has come back by half of that.
 *
 * Why this bound: SimPER's gradient on a response is proportional to its inverse perplexity exp(reward). Where chosen
 * has lost ln 2, half of the force that would bring it back is gone too. That rejected falls alone is what training
 * is for.
 */
export class CollapseAlarm {
  readonly #state: CollapseState;

  constructor(state?: CollapseState) {
    const nothing = { pairs: 0, chosen: 0, rejected: 0 };
    this.#state = structuredClone(state ?? { start: nothing, recent: [], isRaised: false, alarms: [] });
  }

  get alarms(): readonly Collapse[] {
    return this.#state.alarms;
  }

  toJSON(): CollapseState {
    return structuredClone(this.#state);
  }

  /** Takes the mean log-probabilities of a token of a step's pairs; returns the collapse that they make known. */
  add(step: number, pairs: number, logps: { chosen: number; rejected?: number }): Collapse | undefined {
    const { chosen, rejected } = logps;
    if (rejected === undefined) return;
    const state = this.#state;
    const sums = { pairs, chosen: chosen * pairs, rejected: rejected * pairs };
    if (state.start.pairs < COLLAPSE_PAIRS) {
      state.start = total([state.start, sums]);
      return;
    }
    state.recent.push(sums);
    while (total(state.recent.slice(1)).pairs >= COLLAPSE_PAIRS) state.recent.shift();
    const recent = total(state.recent);
    if (recent.pairs < COLLAPSE_PAIRS) return;
    const fall = (name: "chosen" | "rejected") =>
      state.start[name] / state.start.pairs - recent[name] / recent.pairs;
    const collapse = { step, chosen: fall("chosen"), rejected: fall("rejected") };
    if (collapse.chosen < COLLAPSE_BOUND / 2) state.isRaised = false;
    if (state.isRaised || Math.min(collapse.chosen, collapse.rejected) <= COLLAPSE_BOUND) return;
    state.isRaised = true;
    state.alarms.push(collapse);
    return collapse;
  }
}

/** A warning for people. */
export function describeCollapse({ step, chosen, rejected }: Collapse): string {
  return `step ${step}: chosen responses are becoming improbable together with rejected ones: the mean ` +
    "log-probability of a " +
    `token fell by ${chosen.toFixed(2)} (chosen) and ${
      rejected.toFixed(2)
    } (rejected) since the start of the run, more ` +
    "than 0.69 both. Try a lower learning_rate";
}

function total(all: readonly Sums[]): Sums {
  return all.reduce((sum, { pairs, chosen, rejected }) => ({
    pairs: sum.pairs + pairs,
    chosen: sum.chosen + chosen,
    rejected: sum.rejected + rejected,
  }), { pairs: 0, chosen: 0, rejected: 0 });
}
