/**
 * The thread that serves the live report of a run of the same process; it may read the run's folder, and nothing else.
 */
import { PAUSE, type RunPhase } from "../report/live.ts";
import { type LiveMessage, type LiveOrder, serveLive } from "./serve_live.ts";

let phase: RunPhase = "begins";

self.onmessage = ({ data }: MessageEvent<LiveOrder>) => {
  if (typeof data === "object") {
    const { folder } = data;
    const address = serveLive({ folder, phase: () => phase, stop: () => self.postMessage("stop") });
    self.postMessage({ address });
    return;
  }
  phase = data;
  // By then every page has been sent what there is.
  if (phase === "ended") setTimeout(() => self.postMessage("shown"), 2 * PAUSE);
};

// Of a worker, which the types of the main thread do not know.
declare const self: {
  onmessage: (event: MessageEvent<LiveOrder>) => void;
  postMessage: (message: LiveMessage) => void;
};
