/** The types of keys that count something, and how much of it there may be. */
import { integer, type ValueType } from "./values.ts";

export const positive: ValueType<number> = integer({ min: 1 });
/** Far beyond what any run has; plans are made step by step and pair by pair before a run begins. */
export const MOST_TOKENS = 2 ** 20;
/** Pairs of one optimizer step, however they are parted. */
export const MOST_PAIRS = 2 ** 20;
export const MOST_STEPS = 10_000_000;
export const MOST_EPOCHS = 100_000;
export const tokens = (min: number): ValueType<number> => integer({ min, max: MOST_TOKENS });
export const pairs: ValueType<number> = integer({ min: 1, max: MOST_PAIRS });
