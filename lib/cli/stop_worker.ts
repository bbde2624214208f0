/**
 * Hears signals for a program whose own thread the GPU's driver may block for minutes: answers at once, and tells that thread.
 * It hears but one: a second one finds no listener and ends the process. What comes in the same moment is the same signal: `deno task`
 * hands on what its process group was sent too.
 */
import { formatDuration } from "../report/progress.ts";
import { writeError } from "./output.ts";
import { type Answer, SAME_SIGNAL, SIGNALS } from "./stop.ts";

let answer: Answer = {};
let isHeard = false;

function onSignal(): void {
  if (isHeard) return;
  isHeard = true;
  const { text, until } = answer;
  const seconds = until === undefined ? 0 : (until - Date.now()) / 1000;
  const left = seconds >= 1 ? `, which takes about ${formatDuration(seconds)} more` : "";
  if (text) writeError(`${text}${left}; another signal stops at once\n`);
  setTimeout(() => {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, onSignal);
  }, SAME_SIGNAL);
  self.postMessage("stop");
}

self.onmessage = ({ data }: MessageEvent<Answer | "stop">) => {
  if (data === "stop") onSignal();
  else answer = data;
};
for (const signal of SIGNALS) Deno.addSignalListener(signal, onSignal);
self.postMessage("ready");

// Of a worker, which the types of the main thread do not know.
declare const self: {
  onmessage: (event: MessageEvent<Answer | "stop">) => void;
  postMessage: (message: string) => void;
};
