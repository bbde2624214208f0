/** What follows a row of logits, as kernel calls. */
import chooseSource from "../../kernels/choose.wgsl" with { type: "text" };
import drawSource from "../../kernels/draw.wgsl" with { type: "text" };
import { withPrelude } from "../../kernels/prelude.ts";
import { HASH } from "../../kernels/storage.ts";
import type { Tensor } from "./memory.ts";
import { type LogitOptions, oneEach, rowLength, scoreFunctions } from "./operations.ts";
import type { KernelCall, RowSlot } from "./program.ts";

/** Likeliest tokens that a choice can tell. */
export const MOST_TOP = 20;
/** Words of a choice's result; see `kernels/choose.wgsl`. */
export const RESULT_WORDS = 2 + 2 * MOST_TOP;
/** Words of what a choice is made by. */
export const CHOICE_WORDS = 16;

/** What choices are made by and what becomes of them. L labels. */
export interface ChoiceTensors {
  choices: Tensor; // [L, CHOICE_WORDS]
  drawn: Tensor; // [L]
  /** How often each answer has each token. */
  seen: Tensor; // [answers, vocabulary]
  results: Tensor; // [any, RESULT_WORDS]
  /** Threads to a row: a driver on the processor takes seconds to compile for as many as a GPU wants. */
  threads: 64 | 256;
}

const CHOICE = `
struct Choice {
  temperature: f32, top_p: f32, min_p: f32, top_k: u32,
  repetition: f32, presence: f32, frequency: f32,
  // Of the row of \`seen\`, one more; 0 where nothing is penalised.
  seen_row: u32,
  seed: vec2u,
  // Tokens of the answer before this one.
  place: u32,
  // What is to be told of instead, one more; 0 for none.
  token: u32,
  // How many of the likeliest are told.
  top: u32,
  // Where the result goes.
  result: u32,
  unused: vec2u,
}
fn is_drawn(row: u32) -> bool {
  return choices[row].token == 0u && (choices[row].temperature > 0.0 || choices[row].seen_row > 0u);
}`;

/**
 * Draws the tokens that follow rows of logits[L, padded vocabulary], of those that do not take the likeliest:
 * drawn[L].
 */
export const draw = (
  rows: RowSlot,
  t: ChoiceTensors & { logits: Tensor },
  vocabulary: number,
  options: LogitOptions = {},
): KernelCall => ({
  label: "draw",
  source: withPrelude(`${scoreFunctions(options)}\n${HASH}${CHOICE}\n${drawSource}`, {
    STRIDE: rowLength(t.logits),
    VOCABULARY: vocabulary,
    THREADS: t.threads,
  }),
  bindings: [rows.tensor, t.logits, t.choices, t.seen, t.drawn],
  grid: oneEach(rows),
});

/** The token that follows each row of logits[L, padded vocabulary]: in its result, and at its row in ids[tokens]. */
export const choose = (
  rows: RowSlot,
  t: ChoiceTensors & { logits: Tensor; labelRows: Tensor; ids: Tensor },
  vocabulary: number,
  options: LogitOptions = {},
): KernelCall => ({
  label: "choose",
  source: withPrelude(`${scoreFunctions(options)}${CHOICE}\n${chooseSource}`, {
    STRIDE: rowLength(t.logits) / 4,
    VOCABULARY: vocabulary,
    RESULT: RESULT_WORDS,
    MOST_TOP,
    THREADS: t.threads,
  }),
  bindings: [rows.tensor, t.logits, t.choices, t.labelRows, t.drawn, t.ids, t.results],
  grid: oneEach(rows),
});
