/** The keys of a run file that `simper compare` alone reads. */
import { positive } from "./counts.ts";
import { KEYS } from "./schema.ts";
import { text, type ValueType } from "./values.ts";

/** What a comparison is made of, besides the keys that all its runs have. */
export interface ComparisonKeys {
  compare: ReadonlyMap<string, unknown>;
  sweep: ReadonlyMap<string, unknown>;
  seeds: readonly number[];
  text: string;
  max_new_tokens: number;
}

const mapping = (expected: string): ValueType<ReadonlyMap<string, unknown>> => ({
  expected,
  typescript: "Record<string, unknown>",
  read: (value) =>
    value instanceof Map && value.size > 0 && [...value.keys()].every((key) => typeof key === "string")
      ? value
      : undefined,
});

const seeds: ValueType<readonly number[]> = {
  expected: "a list of whole numbers that differ, such as [42, 43, 44]",
  typescript: "readonly number[]",
  read: (value) => {
    const list = Array.isArray(value) ? value.map((item) => KEYS.seed.type.read(item)) : [];
    const read = list.filter((item) => item !== undefined);
    const differ = new Set(read).size === list.length;
    return read.length > 0 && read.length === list.length && differ ? read : undefined;
  },
};

/** What each may be, how its value is written as an option, and what it means. */
export const COMPARISON_KEYS: {
  readonly [K in keyof ComparisonKeys]: { type: ValueType<ComparisonKeys[K]>; value: string; doc: string };
} = {
  compare: {
    type: mapping(
      "a mapping of names to their keys, such as {simper: {loss_type: simper}, sft: {loss_type: sft}}",
    ),
    value: "{NAME: {KEY: VALUE}}",
    doc:
      "What is compared: a name, which is that of a folder in `output_dir` too, and the keys in which its " +
      "runs differ from the others; the first is the one that the others are compared with.",
  },
  sweep: {
    type: mapping("a mapping of keys to lists of values, such as {learning_rate: [3.0e-5, 6.0e-5]}"),
    value: "{KEY: [VALUE, ...]}",
    doc:
      "Keys with lists of values: each of `compare` is run with each value, and with several keys with all together.",
  },
  seeds: {
    type: seeds,
    value: "[N, ...]",
    doc: "A run of each for every seed; without it, for `seed` alone.",
  },
  text: {
    type: text,
    value: "FILE",
    doc: "A file of plain text that no run reads: its perplexity says what was forgotten.",
  },
  max_new_tokens: {
    type: positive,
    value: "N",
    doc:
      "Most tokens of an answer that is measured; by default what `max_length` has beside `max_prompt_length`.",
  },
};
