/** What becomes of a command that a signal comes to. */
import { type Answer, SAME_SIGNAL, sayOnce, SIGNALS, type ToThread } from "./stop_answer.ts";

/** Status of a command that a signal ended. */
export const STOPPED = 130;
const THREAD = new URL("./stop_worker.ts", import.meta.url);
// Never called: so the thread's module is one of the program's, and is fetched with it.
void (() => import("./stop_worker.ts"));
/** Milliseconds for what is left behind in order, locks for one, where there is nothing to save. */
const GRACE = 1000;

/**
 * Hears SIGINT and SIGTERM, in a thread of its own. The first one is answered at once and sets `signal`, and a second
 * later the process ends with status 130, unless `isCareful`: then what is in hand is brought to its end. The second
 * one ends it at once.
 */
export class Stop {
  /** Whether there is something to save, which takes the time that it takes. */
  isCareful = false;
  #controller = new AbortController();
  readonly #worker?: Worker;
  readonly #answered = new Int32Array(new SharedArrayBuffer(4));
  #answer: Answer = { text: "stopping" };
  /** When the first signal came. */
  #since = 0;
  readonly #onSignal = () => {
    if (!this.signal.aborted) {
      sayOnce(this.#answer, this.#answered);
      this.#stop();
    } else if (performance.now() - this.#since >= SAME_SIGNAL) Deno.exit(STOPPED);
  };

  constructor() {
    // Until the thread is there, which takes some time.
    for (const signal of SIGNALS) Deno.addSignalListener(signal, this.#onSignal);
    // Without the thread this one hears signals, when it is not blocked.
    if (!mayRead(THREAD)) return;
    this.#worker = new Worker(THREAD, { type: "module" });
    this.#worker.onerror = (event) => event.preventDefault();
    this.#worker.onmessage = ({ data }: MessageEvent<"ready" | "stop">) =>
      data === "ready" ? this.#listen() : this.#stop();
    this.#tell(this.#answer);
    this.#tell(this.#answered);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What a signal is answered from now on; the thread has it even where this one is blocked next. */
  answer(answer: Answer): void {
    this.#answer = answer;
    this.#tell(answer);
  }

  /**
   * What a signal stopped is over, and not the command: the next signal is the first one again, and `signal` another.
   */
  again(): void {
    if (!this.signal.aborted) return;
    this.#controller = new AbortController();
    Atomics.store(this.#answered, 0, 0);
    this.#tell("again");
  }

  /** Stops as a signal does. */
  request(): void {
    if (this.#worker) this.#tell("stop");
    else this.#onSignal();
  }

  #tell(message: ToThread): void {
    this.#worker?.postMessage(message);
  }

  /** From now on the thread hears signals; one that came before it is its first one. */
  #listen(): void {
    if (this.signal.aborted) this.#tell("stop");
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, this.#onSignal);
  }

  #stop(): void {
    if (this.signal.aborted) return;
    this.#since = performance.now();
    this.#controller.abort();
    const { signal } = this;
    setTimeout(() => this.isCareful || this.signal !== signal || Deno.exit(STOPPED), GRACE);
  }
}

/** Whether a module may be loaded as a thread: Deno tells of it on stderr where not, whatever becomes of the error. */
export function mayRead(module: URL): boolean {
  return module.protocol !== "file:" ||
    Deno.permissions.querySync({ name: "read", path: module }).state === "granted";
}
