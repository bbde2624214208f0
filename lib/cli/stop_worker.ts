/**
 * Hears signals for a program whose own thread the GPU's driver may block for minutes: answers at once, and tells that thread.
 * It hears but one: a second one finds no listener and ends the process.
 */
import { formatDuration } from "../report/progress.ts";
import { writeError } from "./output.ts";
import { type Answer, SIGNALS } from "./stop.ts";

let answer: Answer = {};

function onSignal(): void {
  const { text, until } = answer;
  const seconds = until === undefined ? 0 : (until - Date.now()) / 1000;
  const left = seconds >= 1 ? `, which takes about ${formatDuration(seconds)} more` : "";
  if (text) writeError(`${text}${left}; another signal stops at once\n`);
  for (const signal of SIGNALS) Deno.removeSignalListener(signal, onSignal);
  self.postMessage("stop");
}

self.onmessage = ({ data }: MessageEvent<Answer>) => void (answer = data);
for (const signal of SIGNALS) Deno.addSignalListener(signal, onSignal);
self.postMessage("ready");

// Of a worker, which the types of the main thread do not know.
declare const self: {
  onmessage: (event: MessageEvent<Answer>) => void;
  postMessage: (message: string) => void;
};
