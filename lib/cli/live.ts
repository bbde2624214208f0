/** The live report of a run of this process. */
import { resolve } from "node:path";
import type { Logger } from "../report/log.ts";
import { HOST, type LiveMessage, type LiveOrder } from "./serve_live.ts";
import { lackOf } from "./permissions.ts";
import { mayRead } from "./stop.ts";

const THREAD = new URL("./live_worker.ts", import.meta.url);
// Never called: so the thread's module is one of the program's, and is fetched with it.
void (() => import("./live_worker.ts"));
/** Milliseconds for the last figures to reach the page. */
const FAREWELL = 3000;

/** Opens the browser, where this program may start it; elsewhere whoever reads the address does. */
export function openBrowser(address: string): void {
  const command = { darwin: "open", windows: "explorer" }[Deno.build.os as string] ?? "xdg-open";
  if (Deno.permissions.querySync({ name: "run", command }).state !== "granted") return;
  try {
    const streams = { stdin: "null", stdout: "null", stderr: "null" } as const;
    new Deno.Command(command, { args: [address], ...streams }).spawn().unref();
  } catch {
    // There is none here.
  }
}

/**
 * The live report of the run of this process, served by a thread of its own: a submission to the GPU may block this one
 * for minutes. That it cannot be served is no reason to end a run.
 */
export class LiveReport implements AsyncDisposable {
  readonly #worker?: Worker;
  readonly #shown = Promise.withResolvers<void>();

  /** @param stop is called when the page's button was pressed. */
  constructor(outputDir: string, stop: () => void, log: Logger) {
    const fail = (why: string) => {
      log.warning(`--open: no live report: ${why}`);
      this.#shown.resolve();
    };
    const folder = resolve(outputDir);
    try {
      if (!mayRead(THREAD)) throw new Error("there is no permission to read this program's own files");
      // A thread can be given no more than the program has.
      const { state } = Deno.permissions.querySync({ name: "net", host: HOST });
      if (state !== "granted") throw new Error(lackOf("net", HOST));
      // Modules of a program that comes from the network are read there.
      const modules = THREAD.protocol === "file:" ? {} : { import: "inherit" as const };
      this.#worker = new Worker(THREAD, {
        type: "module",
        deno: { permissions: { net: [HOST], read: [folder], ...modules } },
      });
    } catch (error) {
      fail((error as Error).message);
      return;
    }
    this.#worker.onerror = (event) => {
      event.preventDefault();
      fail(event.message);
    };
    this.#worker.onmessage = ({ data }: MessageEvent<LiveMessage>) => {
      if (data === "stop") stop();
      else if (data === "shown") this.#shown.resolve();
      else {
        log.info(`live report: ${data.address}`);
        openBrowser(data.address);
      }
    };
    this.#tell({ folder });
  }

  /** The folder is this run's from now on. */
  begin(): void {
    this.#tell("runs");
  }

  /** Ends when the page has what there is to show. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#tell("ended");
    const late = setTimeout(this.#shown.resolve, FAREWELL);
    await this.#shown.promise;
    clearTimeout(late);
  }

  #tell(order: LiveOrder): void {
    this.#worker?.postMessage(order);
  }
}
