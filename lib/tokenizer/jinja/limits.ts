import { UserError } from "../../errors.ts";

/** What Python raises while a template is rendered; `kind` is its class, which a few of Jinja's functions catch by. */
export class TemplateError extends Error {
  constructor(readonly kind: string, message: string) {
    super(message);
  }
}

/** What Python renders and this program does not: never caught within a template, so that it is always told. */
export class Unsupported extends Error {
  constructor(what: string) {
    super(`${what} is not supported here, though Python renders it: write it otherwise in the template`);
  }
}

/** A template that is no template. */
export class TemplateSyntaxError extends Error {
  constructor(message: string, readonly line: number) {
    super(message);
  }
}

/** Steps of one rendering; a conversation of 200 messages with 1,000 words each takes far less than a tenth of them. */
const MOST_STEPS = 10_000_000;
/**
 * Characters, and list elements counted as 16 of them, that one rendering may make altogether: all of it may stay in
 * memory.
 */
const MOST_MEMORY = 2 ** 26;
/** Numbers of one range(), as in Jinja's sandbox. */
export const LONGEST_RANGE = 100_000;

// A rendering is synchronous and holds no other, so that one count is enough, and what makes texts need not be handed
// it.
let steps = 0;
let memory = 0;

let line = 1;

/** Before a rendering. */
export function beginCount(): void {
  steps = 0;
  memory = 0;
  line = 1;
}

/** At the beginning of a statement, and where one goes on after a macro. */
export function atLine(number: number): void {
  line = number;
}

/** The template's line that is rendered, or that failed. */
export const currentLine = (): number => line;

/** Counts work that takes time. */
export function countSteps(count: number): void {
  steps += count;
  if (steps > MOST_STEPS) {
    throw tooMuch(`takes more than ${MOST_STEPS} steps for one conversation`);
  }
}

/** Counts what is made, before it is made where it may be long: `count` characters. */
export function countText(count: number): void {
  memory += count;
  if (memory > MOST_MEMORY) {
    throw tooMuch(`makes more than ${MOST_MEMORY} characters of text and lists for one conversation`);
  }
}

/** Counts a list of `count` elements. */
export function countList(count: number): void {
  countText(16 * count + 16);
}

export const tooMuch = (what: string): UserError =>
  new UserError(`the chat template ${what}, so it was stopped: its loops do not end in a reasonable time`);
