/** What statements are made to: functions that are run, and how one ends. */
import type { Code } from "./code.ts";
import type { Statement } from "./nodes.ts";
import type { Frame } from "./runtime.ts";

/** How a statement ended: all is well, or the loop around it is to end or to go on. */
export type Signal = 0 | typeof BREAK | typeof CONTINUE;
export const BREAK = 1;
export const CONTINUE = 2;
export type Execute = (frame: Frame) => Signal;
/** Makes one function of the statements within another. */
export type CompileBody = (nodes: readonly Statement[], code: Code) => Execute;
