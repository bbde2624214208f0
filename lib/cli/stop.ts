/** Signals, and what becomes of a command that one comes to. */

export const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** What is said to the first signal; without a text nothing. */
export interface Answer {
  text?: string;
  /** When what is in hand will be done, in milliseconds as `Date.now()`. */
  until?: number;
}

/** Status of a command that a signal ended. */
export const STOPPED = 130;
/** Milliseconds within which a signal that comes again is the first one. */
export const SAME_SIGNAL = 250;
const THREAD = new URL("./stop_worker.ts", import.meta.url);
/** Milliseconds for what is left behind in order, locks for one, where there is nothing to save. */
const GRACE = 1000;

/**
 * Hears SIGINT and SIGTERM, in a thread of its own. The first one is answered at once and sets `signal`, and a second later the
 * process ends with status 130, unless `isCareful`: then what is in hand is brought to its end. The second one ends it at once.
 */
export class Stop {
  /** Whether there is something to save, which takes the time that it takes. */
  isCareful = false;
  readonly #controller = new AbortController();
  readonly #worker?: Worker;
  #answer: Answer = { text: "stopping" };
  /** When the first signal came. */
  #since = 0;
  readonly #onSignal = () => this.#stop();

  constructor() {
    // Until the thread is there, which takes some time.
    for (const signal of SIGNALS) Deno.addSignalListener(signal, this.#onSignal);
    // Without the thread this one hears signals, when it is not blocked.
    if (!mayRead(THREAD)) return;
    this.#worker = new Worker(THREAD, { type: "module" });
    this.#worker.onerror = (event) => event.preventDefault();
    this.#worker.onmessage = ({ data }: MessageEvent<string>) =>
      data === "ready" ? this.#listen() : this.#stop();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What a signal is answered from now on; the thread has it even where this one is blocked next. */
  answer(answer: Answer): void {
    this.#answer = answer;
    this.#worker?.postMessage(answer);
  }

  /** Stops as a signal does. */
  request(): void {
    if (this.#worker) this.#worker.postMessage("stop");
    else this.#stop();
  }

  #listen(): void {
    this.#worker?.postMessage(this.#answer);
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, this.#onSignal);
  }

  #stop(): void {
    if (this.signal.aborted) {
      if (performance.now() - this.#since < SAME_SIGNAL) return;
      Deno.exit(STOPPED);
    }
    this.#since = performance.now();
    this.#controller.abort();
    setTimeout(() => this.isCareful || Deno.exit(STOPPED), GRACE);
  }
}

/** Whether a module may be loaded as a thread: Deno tells of it on stderr where not, whatever becomes of the error. */
export function mayRead(module: URL): boolean {
  return module.protocol !== "file:" ||
    Deno.permissions.querySync({ name: "read", path: module }).state === "granted";
}
