import type { TrainConfig } from "./key_types.ts";
import type { ValueType } from "./values.ts";

/** What is known of one key. */
export interface Key<T> {
  /** What it may be. */
  type: ValueType<T>;
  doc: string;
  /** Without one, the key may be left out (or null) and `doc` says what happens then. */
  default?: T;
  required?: true;
  /** Left out, it follows from other keys (`complete`): a checked configuration has it. */
  follows?: true;
  /**
   * Whether a resumed run may have another value: what it names is compared by its hash, or it leaves the weights
   * after a step as they are. Every other key matters, one that is new tomorrow too.
   */
  mayChange?: true;
  /** Never written down: not in reports, not in the model card. */
  secret?: true;
  /** Other names of the same key. */
  aliases?: readonly string[];
}

/** Every checked configuration has a value of it. */
type Certain<T> = Key<T> & ({ required: true } | { follows: true } | { default: T });

/** What is known of each key; one that a configuration always has says how it comes to its value. */
export type Table = {
  readonly [F in keyof TrainConfig]: undefined extends TrainConfig[F]
    ? Key<Exclude<TrainConfig[F], undefined>>
    : Certain<TrainConfig[F]>;
};
