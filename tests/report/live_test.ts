import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFile, mkdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { liveHandler, type RunPhase } from "../../lib/report/live.ts";
import { live } from "../../lib/report/live_page.js";
import { writeFacts } from "../../lib/report/run_log.ts";
import type { RunFacts } from "../../lib/report/run_report.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const HOSTILE = `<script>alert("1")</script>`;
const FACTS: RunFacts = {
  name: "a run",
  lossType: "simper",
  device: "a GPU",
  version: "0.1.0",
  pairsPerStep: 4,
  settings: [["max_length", "512"]],
  answers: [{ prompt: "Hi", before: HOSTILE }],
  modelFiles: [],
  memoryBytes: 0,
  dataFiles: [],
};
const PAGE = "http://127.0.0.1:8000";

const lineOf = (step: number) =>
  JSON.stringify({ step, epoch: step / 10, loss: -step / 100, pairs_per_second: 2 }) + "\n";

/** What comes by `/events`. */
async function* messages(response: Response) {
  let text = "";
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      assert.match(text, /^data: /);
      yield JSON.parse(text.slice("data: ".length, end)) as {
        sections: Record<string, string>;
        isRunning: boolean;
      };
      text = text.slice(end + 2);
    }
  }
}

async function withRun(
  body: (
    folder: string,
    run: { phase: RunPhase; stops: number },
    ask: (path: string, init?: RequestInit & { origin?: string }) => Promise<Response>,
  ) => Promise<void>,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const run = { phase: "runs" as RunPhase, stops: 0 };
    const handler = liveHandler({ folder, phase: () => run.phase, stop: () => void run.stops++ });
    await body(
      folder,
      run,
      (path, { origin = PAGE, ...init } = {}) => handler(new Request(`${origin}${path}`, init)),
    );
  });
}

Deno.test("a point that a run adds to its log arrives in the live report, and nothing else of the page with it", () =>
  withRun(async (folder, run, ask) => {
    run.phase = "begins";
    const log = join(folder, "metrics.jsonl");
    // Of another run, which this one will replace.
    await writeFile(log, lineOf(7));
    const news = messages(await ask("/events"));
    const next = async () => (await news.next()).value!;
    const { sections: first, isRunning } = await next();
    assert.equal(isRunning, true);
    assert.match(first.place, /The run begins/);
    assert.doesNotMatch(Object.values(first).join(""), /at step/);

    await Promise.all([
      writeFile(log, ""),
      writeFile(join(folder, "trainer_state.json"), `{"max_steps": 10, "stateful_callbacks": {}}`),
      writeFacts(folder, FACTS),
    ]);
    run.phase = "runs";
    const begun = (await next()).sections;
    assert.match(begun.heading, /a run/);
    assert.match(begun.place, /step 0 of 10/);
    assert.match(begun.answers, /&lt;script&gt;/);

    await appendFile(log, lineOf(1));
    const { sections } = await next();
    assert.deepEqual(Object.keys(sections).sort(), ["curves", "figures", "place"]);
    assert.match(sections.curves, /<title>training: -0.01 at step 1<\/title>/);
    // Four pairs a step, two a second, nine steps to go.
    assert.match(sections.place, /step 1 of 10 · about 0:1[78] left/);

    // A line in two parts, and one that is none.
    await appendFile(log, lineOf(2).slice(0, 9));
    // The time left goes on meanwhile.
    assert.deepEqual(Object.keys((await next()).sections), ["place"]);
    await appendFile(log, `${lineOf(2).slice(9)}no line\n${lineOf(3)}`);
    let curves = "";
    while (!curves.includes("at step 3")) curves = (await next()).sections.curves ?? "";
    assert.deepEqual([...curves.matchAll(/at step (\d)/g)].map(([, step]) => step), ["1", "2", "3"]);

    await writeFacts(folder, { ...FACTS, answers: [{ ...FACTS.answers[0], after: "better" }] });
    let answers = "";
    while (!answers) answers = (await next()).sections.answers ?? "";
    assert.match(answers, /<th>after<\/th>.*better/s);
    await news.return(undefined);
  }));

Deno.test("a run that has ended says how, when, and what is there", () =>
  withRun(async (folder, run, ask) => {
    const place = async () => /<div id="place">(.*?)<\/div>/s.exec(await (await ask("/")).text())![1];
    await writeFile(join(folder, "metrics.jsonl"), lineOf(4));
    await writeFile(join(folder, "trainer_state.json"), `{"max_steps": 10, "stateful_callbacks": {}}`);
    assert.doesNotMatch(await place(), /command|loadModel/);
    run.phase = "ended";
    assert.match(
      await place(),
      /step 4 of 10 · not running<.*stopped, or failed; its last log entry is of \d{4}-\d\d-\d\d \d\d:\d\d\..*begins anew: there/,
    );
    await mkdir(join(folder, "checkpoint-4"));
    assert.match(await place(), /the command that began it goes on from <code>checkpoint-4<\/code>/);
    await writeFacts(folder, { ...FACTS, settings: [["overwrite_output_dir", "true"]] });
    assert.match(await place(), /with <code>--overwrite_output_dir=false<\/code> goes on from/);
    await appendFile(join(folder, "metrics.jsonl"), lineOf(10));
    assert.match(await place(), /step 10 of 10 · not running<.*Its result was not saved/);
    const results = join(folder, "all_results.json");
    await writeFile(results, `{"train_loss": 1}`);
    await utimes(results, new Date(), new Date(2026, 2, 9, 17, 5, 59));
    const finished = await place();
    assert.match(finished, /step 10 of 10 · finished 2026-03-09 17:05</);
    assert.ok(finished.includes(`The model is in <code>${folder}</code>`), finished);
    assert.match(finished, /<code>report\.html<\/code>.*loadModel\(/);
    assert.doesNotMatch(finished, /checkpoint/);
  }));

Deno.test("files of a folder that are not as a run writes them show nothing, and do not end the live report", () =>
  withRun(async (folder, _run, ask) => {
    await writeFile(join(folder, "report.json"), `{"name": 1, "settings": [[{}]]}`);
    await writeFile(join(folder, "trainer_state.json"), `{"max_steps": "10"}`);
    await writeFile(join(folder, "all_results.json"), "[");
    await writeFile(
      join(folder, "metrics.jsonl"),
      `{"step": "${HOSTILE}", "loss": 1}\n{"step": 2, "loss": "<b>", "<i>": 1, "grad_norm": null}\n`,
    );
    const news = messages(await ask("/events"));
    const { sections } = (await news.next()).value!;
    await news.return(undefined);
    assert.doesNotMatch(Object.values(sections).join(""), /<script|<b>|<i>/);
    assert.match(sections.place, /step 2/);
  }));

Deno.test("only the page itself may stop a run, and only under a name of the loopback", () =>
  withRun(async (_folder, run, ask) => {
    const page = await (await ask("/")).text();
    const [, token] = /data-token="([^"]+)"/.exec(page)!;
    const stop = (headers: Record<string, string>, more = {}) =>
      ask("/stop", { method: "POST", headers, ...more });
    const refused = [
      await stop({}),
      await stop({ "x-token": "guessed" }),
      await stop({ "x-token": token, origin: "http://elsewhere.example" }),
      await stop({ "x-token": token }, { origin: "http://rebound.example:8000" }),
      await ask("/", { origin: "http://rebound.example:8000" }),
      await ask("/events", { origin: "http://127.0.0.1.example" }),
    ];
    assert.deepEqual(refused.map(({ status }) => status), refused.map(() => 403));
    assert.equal((await ask("/stop", { headers: { "x-token": token } })).status, 405);
    assert.equal((await ask("/../metrics.jsonl")).status, 404);
    assert.equal(run.stops, 0);
    assert.equal((await stop({ "x-token": token, origin: PAGE })).status, 202);
    assert.equal(run.stops, 1);
  }));

Deno.test("the served page may run its own script, call its own server, and nothing else", () =>
  withRun(async (_folder, _run, ask) => {
    const response = await ask("/");
    const html = await response.text();
    const hash = (tag: string) =>
      createHash("sha256").update(new RegExp(`<${tag}[^>]*>(.*?)</${tag}>`, "s").exec(html)![1]).digest(
        "base64",
      );
    assert.equal(
      response.headers.get("content-security-policy"),
      `default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-${hash("style")}'; ` +
        `script-src 'sha256-${hash("script")}'; connect-src 'self'; frame-ancestors 'none'`,
    );
    assert.equal(html.match(/<script/g)!.length, 1);
    assert.doesNotMatch(html, /https?:|src=|href=|\sstyle=/);
    for (const id of ["heading", "place", "answers", "curves", "figures"]) {
      assert.ok(html.includes(`<div id="${id}">`), id);
    }
  }));

Deno.test("the page's script puts what arrives in its place, and asks before it stops a run", async () => {
  const part = () => ({
    innerHTML: "",
    textContent: "",
    hidden: true,
    disabled: false,
    dataset: { token: "t" },
  });
  const parts: Record<string, ReturnType<typeof part> & { onclick?: () => Promise<void> }> = {
    curves: part(),
    stop: part(),
    note: part(),
  };
  type Events = Parameters<typeof live>[0]["events"];
  const events: Events = { onmessage: null, onerror: null };
  const sent: unknown[] = [];
  let isSure = false;
  live({
    document: { getElementById: (id) => parts[id] },
    events,
    fetch: (url, init) => {
      sent.push([url, init]);
      return Promise.resolve({ ok: true, text: () => Promise.resolve("stopping") });
    },
    confirm: () => isSure,
  });
  const arrive = (isRunning: boolean) =>
    events.onmessage!(
      new MessageEvent("message", { data: JSON.stringify({ sections: { curves: "<svg>" }, isRunning }) }),
    );
  arrive(true);
  assert.deepEqual([parts.curves.innerHTML, parts.stop.hidden], ["<svg>", false]);
  await parts.stop.onclick!();
  assert.deepEqual(sent, []);
  isSure = true;
  await parts.stop.onclick!();
  assert.deepEqual(sent, [["stop", { method: "POST", headers: { "x-token": "t" } }]]);
  assert.deepEqual([parts.stop.disabled, parts.note.textContent], [true, "stopping"]);
  arrive(true);
  assert.equal(parts.note.textContent, "stopping");
  events.onerror!();
  assert.match(parts.note.textContent, /Nothing more comes/);
  arrive(false);
  assert.deepEqual([parts.note.textContent, parts.stop.hidden], ["", true]);
});
