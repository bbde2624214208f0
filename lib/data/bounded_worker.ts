/**
 * Runs in a Web Worker: starts the worker that tokenises within it. Two are needed, because permissions can be taken from a
 * Web Worker only, and only those of node:worker_threads have a limit of memory: without it V8 ends the whole process, and
 * even a worker that was terminated goes on until then if it does not come to an end.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import type { WorkerStart } from "./worker_messages.ts";

/** What is said to this worker. */
export interface BoundedStart extends WorkerStart {
  /** The way to the worker within. */
  port: MessagePort;
  /** Most megabytes of its JavaScript values. */
  megabytes: number;
}

interface WorkerScope {
  onmessage: (event: MessageEvent<BoundedStart>) => void;
  /** What went wrong in the worker within. */
  postMessage(message: string): void;
}

const scope = self as unknown as WorkerScope;

scope.onmessage = ({ data: { megabytes, ...start } }) => {
  const url = new URL("./worker.ts", import.meta.url);
  // These workers cannot be started from http.
  const source = url.protocol === "file:" ? url : new URL(`data:text/javascript,import "${url}"`);
  const worker = new Worker(source, {
    workerData: start,
    transferList: [start.port as never],
    resourceLimits: { maxOldGenerationSizeMb: megabytes },
  });
  worker.on("error", (error) => scope.postMessage(String(error)));
};
