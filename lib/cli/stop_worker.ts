/**
 * Hears signals for a program whose own thread the GPU's driver may block for minutes: answers at once, and tells
 * that thread. It hears but one, until it is told that the next is the first again: a second one finds no listener
 * and ends the process. What comes in the same moment is the same signal: `deno task` hands on what its process group
 * was sent too.
 */
import { type Answer, SAME_SIGNAL, sayOnce, SIGNALS, type ToThread } from "./stop_answer.ts";

let answered: Int32Array;
let answer: Answer = {};
let isHeard = false;
let heardAt = -Infinity;
let deafening: ReturnType<typeof setTimeout> | undefined;

function onSignal(): void {
  if (isHeard || performance.now() - heardAt < SAME_SIGNAL) return;
  isHeard = true;
  heardAt = performance.now();
  sayOnce(answer, answered);
  deafening = setTimeout(() => {
    deafening = undefined;
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, onSignal);
  }, SAME_SIGNAL);
  self.postMessage("stop");
}

function listen(): void {
  for (const signal of SIGNALS) Deno.addSignalListener(signal, onSignal);
}

/** The next signal is the first one again. */
function again(): void {
  if (!isHeard) return;
  isHeard = false;
  if (deafening === undefined) listen();
  clearTimeout(deafening);
}

self.onmessage = ({ data }: MessageEvent<ToThread>) => {
  if (data === "stop") onSignal();
  else if (data === "again") again();
  else if (data instanceof Int32Array) {
    answered = data;
    listen();
    self.postMessage("ready");
  } else answer = data;
};

// Of a worker, which the types of the main thread do not know.
declare const self: {
  onmessage: (event: MessageEvent<ToThread>) => void;
  postMessage: (message: string) => void;
};
