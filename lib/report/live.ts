/** The live report: that of a run's folder, served while the run goes on. */
import { open, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { listCheckpoints, METRICS, REPORT, RESULTS, TRAINER_STATE } from "../checkpoint/names.ts";
import { collapsesOf, type TrainerState } from "../checkpoint/trainer_state.ts";
import { isObject } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import type { Collapse } from "../training/collapse.ts";
import type { LogEntry } from "../training/log_entry.ts";
import { heading, page, placed, reportSections, servedPolicy } from "./html.ts";
import browserModule from "./live_page.js" with { type: "text" };
import { formatDuration } from "./progress.ts";
import { isFacts, listOf, type RunFacts } from "./run_report.ts";
import { escapeXml } from "./svg.ts";

/** How far a run is; before it runs, its folder may hold what another one left. */
export type RunPhase = "begins" | "runs" | "ended";

/** What a live report is of. */
export interface LiveRun {
  /** The run's `output_dir`, as an absolute path. */
  folder: string;
  phase(): RunPhase | Promise<RunPhase>;
  /**
   * Asks the run to stop, as SIGTERM does.
   * @throws {Error} whose message the page shows.
   */
  stop(): void | Promise<void>;
}

/** Milliseconds between looks at the folder. */
export const PAUSE = 500;
/** Names of the loopback: under another one a page of elsewhere would have come here (DNS rebinding). */
const HOSTS = ["127.0.0.1", "localhost", "[::1]"];

const SCRIPT = `${browserModule}
live({
  document,
  events: new EventSource("events"),
  fetch: (url, init) => fetch(url, init),
  confirm: (question) => confirm(question),
});
`;
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": servedPolicy(SCRIPT),
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/**
 * Answers the requests of a live report: `/` is the page, `/events` what it shows, by server-sent events as it changes,
 * and `POST /stop` stops the run. It is for a server on the loopback, and for pages of its own.
 */
export function liveHandler(run: LiveRun): (request: Request) => Promise<Response> {
  const token = crypto.randomUUID();
  return async (request) => {
    // The host is what the request says.
    if (!URL.canParse(request.url)) return answer(400, "the request's address is none");
    const { hostname, origin, pathname } = new URL(request.url);
    if (!HOSTS.includes(hostname)) {
      return answer(403, "this report is only for the machine that it is made on");
    }
    if (request.method === "GET" && pathname === "/") {
      try {
        const headers = { ...HEADERS, "content-type": "text/html; charset=utf-8" };
        return new Response(await livePage(run, token), { headers });
      } catch (error) {
        return answer(500, `${run.folder}: its files cannot be shown: ${(error as Error).message}`);
      }
    }
    if (request.method === "GET" && pathname === "/events") return eventStream(run);
    if (pathname !== "/stop") return answer(404, "there is no such page");
    if (request.method !== "POST") return answer(405, "expected POST");
    const from = request.headers.get("origin");
    if (request.headers.get("x-token") !== token || (from !== null && from !== origin)) {
      return answer(403, "this is no request of the report's page as it is now: load it again");
    }
    try {
      await run.stop();
      return answer(202, "The run ends after the step in hand, with a checkpoint.");
    } catch (error) {
      return answer(409, (error as Error).message);
    }
  };
}

const answer = (status: number, text: string) =>
  new Response(text, { status, headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" } });

async function livePage(run: LiveRun, token: string): Promise<string> {
  const { top, sections } = await new Look(run).take();
  return page({
    title: basename(run.folder),
    body: `${placed(top)}
<p><button id="stop" type="button" data-token="${token}" hidden>Stop the run</button><span id="note" role="status"></span></p>
${placed(sections)}`,
    script: SCRIPT,
  });
}

/** What the page shows, each part when it is another than before. */
function eventStream(run: LiveRun): Response {
  const look = new Look(run);
  const shown: Record<string, string> = {};
  let wasRunning: boolean | undefined;
  const closed = new AbortController();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      while (!closed.signal.aborted) {
        // What is no run's file is shown when it is one again.
        const taken = await look.take().catch(() => undefined);
        if (!taken) {
          await pause(closed.signal);
          continue;
        }
        const { top, sections, isRunning } = taken;
        const news = Object.entries({ ...top, ...sections }).filter(([id, html]) => shown[id] !== html);
        if (news.length > 0 || wasRunning !== isRunning) {
          Object.assign(shown, Object.fromEntries(news));
          wasRunning = isRunning;
          const data = JSON.stringify({ sections: Object.fromEntries(news), isRunning });
          return controller.enqueue(new TextEncoder().encode(`data: ${data}\n\n`));
        }
        await pause(closed.signal);
      }
    },
    cancel: () => closed.abort(),
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { ...HEADERS, "content-type": "text/event-stream" } });
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, PAUSE);
    signal.addEventListener("abort", done);
  });
}

/** What a run's folder holds; each is missing where there is no such file, or another one. */
interface Found {
  facts?: RunFacts;
  state?: { total: number; collapses: Collapse[] };
  results?: Record<string, number>;
  /** When they were written, in milliseconds as `Date.now()`: last of all. */
  finished?: number;
  /** The name of the last checkpoint. */
  checkpoint?: string;
  log?: LogEntry[];
  /** When the log was added to last, in milliseconds as `Date.now()`. */
  logged?: number;
}

const NOBODY: RunFacts = {
  name: "",
  lossType: "",
  device: "",
  version: "",
  pairsPerStep: NaN,
  settings: [],
  answers: [],
  modelFiles: [],
  memoryBytes: 0,
  dataFiles: [],
};

/** A run as its page shows it, now and whenever it is looked at again. */
class Look {
  readonly #files: RunFolder;

  constructor(readonly run: LiveRun) {
    this.#files = new RunFolder(run.folder);
  }

  /** The parts of the page as HTML, by the names of their elements: what is above the button, and what is below it. */
  async take(): Promise<
    { top: Record<string, string>; sections: Record<string, string>; isRunning: boolean }
  > {
    const phase = await this.run.phase();
    const found = phase === "begins" ? {} : await this.#files.read();
    const { facts, state, results, log = [] } = found;
    const about = facts ? [facts.lossType, facts.device, `simper ${facts.version}`] : [];
    return {
      top: {
        heading: heading(facts?.name ?? basename(this.run.folder), about),
        place: describePlace(phase, this.run.folder, found),
      },
      sections: reportSections({
        facts: facts ?? NOBODY,
        log,
        collapses: state?.collapses ?? [],
        results: results ?? newestFigures(log),
      }),
      isRunning: phase !== "ended",
    };
  }
}

function describePlace(phase: RunPhase, folder: string, found: Found): string {
  const { facts, state, results, finished, log = [], logged } = found;
  if (phase === "begins") return "<p>The run begins: model and data are read, and kernels compiled.</p>";
  const step = log.at(-1)?.step ?? 0;
  const total = state?.total;
  const parts = [total === undefined ? `step ${step}` : `step ${step} of ${total}`];
  const seconds = secondsLeft(log, total, facts?.pairsPerStep, logged);
  if (phase === "ended") parts.push(results ? `finished ${timeOf(finished)}` : "not running");
  else if (step === total) parts.push("the result is being saved");
  else if (seconds !== undefined) parts.push(`about ${formatDuration(seconds)} left`);
  const bar = total ? `<progress aria-label="steps" max="${total}" value="${step}"></progress>` : "";
  const end = phase === "ended" ? `<p>${describeEnd(folder, found, step)}</p>` : "";
  return `<p>${escapeXml(parts.join(" · "))}</p>${bar}${end}`;
}

/** What there is of a run that goes on no more, and what can be done with it, as HTML. */
function describeEnd(
  folder: string,
  { facts, results, checkpoint, state, logged }: Found,
  step: number,
): string {
  const code = (text: string) => `<code>${escapeXml(text)}</code>`;
  if (results) {
    return `The model is in ${code(folder)}, with ${code("README.md")} about it and this page as ` +
      `${code("report.html")}; in a script, ${code(`loadModel(${JSON.stringify(folder)})`)} has it answer.`;
  }
  const what = step === state?.total ? "Its result was not saved" : "It was stopped, or failed";
  const when = logged === undefined ? "" : `; its last log entry is of ${timeOf(logged)}`;
  const overwrites = facts?.settings.some((setting) => setting.join() === "overwrite_output_dir,true");
  const next = checkpoint
    ? `${overwrites ? `with ${code("--overwrite_output_dir=false")} ` : ""}goes on from ${code(checkpoint)}`
    : "begins anew: there is no checkpoint";
  return `${what}${when}. In ${code(folder)}, the command that began it ${next}.`;
}

/** A moment as the clock of this machine has it: 2026-03-09 17:05. */
const timeOf = (milliseconds = NaN) => new Date(milliseconds).toLocaleString("sv-SE").slice(0, 16);

/** For the steps that are left, at the rate of the last log entry; evaluations to come are not counted. */
function secondsLeft(
  log: readonly LogEntry[],
  total?: number,
  pairsPerStep?: number,
  logged?: number,
): number | undefined {
  const last = log.findLast((entry) => entry.pairs_per_second > 0);
  if (!last || total === undefined || pairsPerStep === undefined || logged === undefined) return undefined;
  const seconds = (total - last.step) * pairsPerStep / last.pairs_per_second - (Date.now() - logged) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.round(seconds)) : undefined;
}

/** Of training and of evaluation each figure's last value, where there is no result yet. */
function newestFigures(log: readonly LogEntry[]): Record<string, number> {
  const last = [log.findLast((entry) => "loss" in entry), log.findLast((entry) => "eval_loss" in entry)];
  const { step: _, ...figures } = Object.assign({}, ...last);
  return figures;
}

/** Reads what is in a run's folder, again only what has changed. */
class RunFolder {
  readonly #facts: JsonFile<RunFacts>;
  readonly #state: JsonFile<NonNullable<Found["state"]>>;
  readonly #results: JsonFile<Record<string, number>>;
  readonly #log: Log;

  constructor(readonly folder: string) {
    this.#facts = new JsonFile(join(folder, REPORT), (value) => isFacts(value) ? value : undefined);
    this.#state = new JsonFile(join(folder, TRAINER_STATE), readState);
    this.#results = new JsonFile(join(folder, RESULTS), (value) => value as Record<string, number>);
    this.#log = new Log(join(folder, METRICS));
  }

  async read(): Promise<Found> {
    const [facts, state, results, log, checkpoints] = await Promise.all(
      [
        this.#facts.read(),
        this.#state.read(),
        this.#results.read(),
        this.#log.read(),
        listCheckpoints(this.folder),
      ] as const,
    );
    const last = checkpoints.at(-1);
    return {
      facts,
      state,
      results,
      finished: this.#results.changed,
      checkpoint: last && basename(last.folder),
      log,
      logged: this.#log.changed,
    };
  }
}

/** A file of JSON that is written anew as a whole. */
class JsonFile<T> {
  /** When it was, in milliseconds as `Date.now()`. */
  changed?: number;
  #version?: string;
  #value?: T;

  /** @param parse gives undefined, or throws, where an object is not what is expected. */
  constructor(readonly path: string, readonly parse: (value: Record<string, unknown>) => T | undefined) {}

  async read(): Promise<T | undefined> {
    try {
      const { ino, mtimeMs, size } = await stat(this.path);
      const version = `${ino} ${mtimeMs} ${size}`;
      if (version !== this.#version) {
        this.#version = version;
        this.changed = mtimeMs;
        this.#value = undefined;
        const value: unknown = JSON.parse(await readTextFile(this.path));
        if (isObject(value)) this.#value = this.parse(value);
      }
    } catch {
      this.#value = undefined;
    }
    return this.#value;
  }
}

/** metrics.jsonl, of which only what is new is read; a run that goes on begins the file anew. */
class Log {
  changed?: number;
  #entries: LogEntry[] = [];
  #inode?: number;
  #offset = 0;

  constructor(readonly path: string) {}

  async read(): Promise<LogEntry[]> {
    const file = await open(this.path).catch(() => undefined);
    if (!file) return [];
    try {
      const { ino, mtimeMs, size } = await file.stat();
      if (ino !== this.#inode || size < this.#offset) {
        [this.#entries, this.#inode, this.#offset] = [[], ino, 0];
      }
      this.changed = mtimeMs;
      if (size === this.#offset) return this.#entries;
      const bytes = new Uint8Array(size - this.#offset);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, this.#offset);
      // Of a line that is being written the rest comes later.
      const end = bytes.lastIndexOf(10, bytesRead - 1) + 1;
      this.#offset += end;
      const lines = new TextDecoder().decode(bytes.subarray(0, end)).split("\n");
      this.#entries = [...this.#entries, ...lines.flatMap(readEntry)];
      return this.#entries;
    } finally {
      await file.close();
    }
  }
}

function readEntry(line: string): LogEntry[] {
  try {
    const entry: unknown = JSON.parse(line);
    return isObject(entry) && Number.isFinite(entry.step) ? [entry as LogEntry] : [];
  } catch {
    return [];
  }
}

function readState(value: Record<string, unknown>): Found["state"] {
  const collapses = collapsesOf(value as unknown as TrainerState);
  const isRight = Number.isSafeInteger(value.max_steps) &&
    listOf(collapses, ({ step, chosen, rejected }) => [step, chosen, rejected].every(Number.isFinite));
  return isRight ? { total: Number(value.max_steps), collapses } : undefined;
}
