/**
 * Runs in a Web Worker: starts the worker that tokenizes within it. Two are needed, because permissions can be taken
 * from a Web Worker only, and only those of node:worker_threads have a limit of memory: without it V8 ends the whole
 * process, and even a worker that was terminated goes on until then if it does not come to an end.
 *
 * @module
 */
import { Worker as NodeWorker } from "node:worker_threads";
import type { WorkerStart } from "./worker_messages.ts";

/** Newer than its types. */
interface Worker extends NodeWorker {
  cpuUsage(): Promise<{ user: number; system: number }>;
}

/** What is said to this worker. */
export interface BoundedStart extends WorkerStart {
  /** The way to the worker within. */
  port: MessagePort;
  /** Most megabytes of its JavaScript values. */
  megabytes: number;
  /** Milliseconds after which its processor time is looked at. */
  interval: number;
}

interface WorkerScope {
  onmessage: (event: MessageEvent<BoundedStart>) => void;
  /** What went wrong in the worker within. */
  postMessage(message: string): void;
}

const THREAD = new URL("./worker.ts", import.meta.url);
// Never called: so the thread's module is one of the program's, and is fetched with it.
void (() => import("./worker.ts"));

const scope = self as unknown as WorkerScope;

scope.onmessage = ({ data: { megabytes, interval, ...start } }) => {
  // These workers cannot be started from http.
  const source = THREAD.protocol === "file:" ? THREAD : new URL(`data:text/javascript,import "${THREAD}"`);
  const worker = new NodeWorker(source, {
    workerData: start,
    transferList: [start.port as never],
    resourceLimits: { maxOldGenerationSizeMb: megabytes },
    // Without it that of this worker is copied, which may not be read: on a terminal Deno would ask for the permission,
    // and wait.
    env: {},
  }) as Worker;
  // At its limit it stands still and tells nobody; what works on without an end uses a processor.
  const progress = new Int32Array(start.progress);
  const timer = setInterval(async () => {
    const { user, system } = await worker.cpuUsage();
    Atomics.store(progress, 2, (user + system) / 1000);
  }, interval);
  worker.on("error", (error) => {
    clearInterval(timer);
    scope.postMessage(String(error));
  });
};
