import assert from "node:assert/strict";
import { appendFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import {
  appendFile,
  copyFile,
  mkdir,
  readdir,
  readFile,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { packedSize, type Pair, responsesOf } from "../../lib/data/pair.ts";
import { openPairs, type PairOptions } from "../../lib/data/pairs.ts";
import type { Progress } from "../../lib/progress/progress.ts";
import { readRows } from "../../lib/data/read.ts";
import { render } from "../../lib/data/render.ts";
import type { PairStore } from "../../lib/data/store.ts";
import { tokenizePair } from "../../lib/data/tokenize.ts";
import { reportSplit } from "../../lib/report/data_report.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { assertEqualBytes, assertSame } from "../equal_bytes.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const ROWS = join(GOLDEN, "rows.jsonl");
const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });

/** The golden rows, or those of `path`, with changes to the options. */
const optionsOf = (cache: string, changes: Partial<PairOptions> & { path?: string } = {}): PairOptions => ({
  mixer: [{ path: changes.path ?? ROWS, share: 1 }],
  split: "train",
  tokenizer,
  vocabSize: 415,
  autoInsertEmptySystemMsg: true,
  usesRejected: true,
  maxLength: 128,
  maxPromptLength: 64,
  truncationMode: "keep_end",
  cache,
  ...changes,
});

interface Opened {
  pairs: Pair[];
  /** Whether the cache had the pairs. */
  found: boolean;
  notes: string[];
  store: Pick<PairStore, "statistics" | "sizes" | "files" | "columns">;
}

/** All pairs of a store that is opened and closed. */
async function openAll(options: PairOptions): Promise<Opened> {
  const notes: string[] = [];
  let found = true;
  const store = await openPairs({
    ...options,
    onProgress: (progress) => {
      if (!progress.what.startsWith("tokenizing")) return;
      found = false;
      options.onProgress?.(progress);
    },
    log: (_, message) => notes.push(message),
  });
  try {
    const pairs = await store.read(Array.from({ length: store.length }, (_, i) => i));
    return { pairs, found, notes, store };
  } finally {
    await store.close();
  }
}

/** What the store must give, made without one. */
async function directly(options: PairOptions): Promise<Pair[]> {
  return (await Array.fromAsync(readRows(options.mixer[0].path))).map(({ row, where }) => {
    const { prompt, chosen, rejected } = render(row, tokenizer, options);
    return { ...tokenizePair(prompt, chosen, rejected, tokenizer, options), where };
  });
}

for (
  const [name, changes] of Object.entries<Partial<PairOptions> & { path?: string }>({
    "two bytes a token": {},
    "four bytes a token": { vocabSize: 70_000 },
    "one response": { usesRejected: false },
    "nothing cut": { maxLength: 4096, maxPromptLength: 512 },
    "almost everything cut": { maxLength: 24, maxPromptLength: 8, truncationMode: "keep_start" },
    "Parquet": { path: join(GOLDEN, "ultrafeedback.parquet") },
  })
) {
  Deno.test(`pairs come out of the store as they went in, made or found: ${name}`, () =>
    withTemporaryFolder(async (cache) => {
      const options = optionsOf(cache, changes);
      const expected = await directly(options);
      const made = await openAll(options);
      assertSame(made.pairs, expected);
      const found = await openAll(options);
      assert.deepEqual([made.found, found.found], [false, true]);
      assertSame(found.pairs, expected);
      assert.deepEqual(found.store.statistics, made.store.statistics);
      const sizes = expected.map(packedSize);
      assert.deepEqual([...found.store.sizes.tokens], sizes.map(({ tokens }) => tokens));
      assert.deepEqual([...found.store.sizes.labels], sizes.map(({ labels }) => labels));
    }));
}

Deno.test("a store counts rows, tokens, truncated pairs and empty responses, and hashes its files", () =>
  withTemporaryFolder(async (cache) => {
    const progress: Progress[] = [];
    const options = optionsOf(cache, { onProgress: (event) => progress.push(event) });
    const { pairs, store } = await openAll(options);
    const lengths = pairs.flatMap(({ chosen, rejected }) => [chosen.ids.length, rejected!.ids.length]);
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    const cut = (what: Pair["truncated"]) => pairs.filter(({ truncated }) => truncated === what).length;
    assert.ok(cut("prompt") > 0 && cut("response") > 0);
    const ended = pairs.flatMap(responsesOf).filter(({ ids }) => ids.at(-1) === tokenizer.eosTokenId).length;
    assert.ok(ended > 27 && ended < 54, `${ended} of 54: those that are cut have no end`);
    assert.deepEqual(store.statistics, {
      rows: 27,
      truncated: cut("prompt") + cut("response"),
      truncatedResponses: cut("response"),
      notices: [{
        kind: "emptyResponse",
        count: 2,
        first: [{ where: `${ROWS}:7`, detail: "chosen" }, { where: `${ROWS}:8`, detail: "rejected" }],
      }],
      tokens,
      longest: 128,
      responses: 54,
      endedResponses: ended,
    });
    assert.equal(store.sizes.longest, 128);
    assert.deepEqual(progress, [{ what: "tokenizing train", done: 27, total: 27, unit: "rows" }]);
    const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(ROWS));
    assert.deepEqual(store.files, [{ path: ROWS, sha256: Buffer.from(digest).toString("hex") }]);
    const again = await openAll(options);
    assert.deepEqual(again.store.statistics, store.statistics);
    assert.match(again.notes.join(), /tokenized before, found in/);
  }));

Deno.test("what may not be meant is counted by kind, with the first five places, made or found", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "texts.jsonl");
    const row = (i: number) => ({
      prompt: i % 3 ? "Q" : "",
      chosen: " A",
      rejected: i === 8 ? "" : " B<|pad|>",
    });
    const lines = Array.from({ length: 20 }, (_, i) => JSON.stringify(row(i)));
    await writeFile(path, lines.join("\n"));
    const places = (lines: number[], detail?: string) =>
      lines.map((line) => ({ where: `${path}:${line}`, ...(detail && { detail }) }));
    const notices = [
      { kind: "emptyPrompt", count: 7, first: places([1, 4, 7, 10, 13]) },
      { kind: "withoutTemplate", count: 20, first: places([1, 2, 3, 4, 5]) },
      { kind: "otherEnd", count: 19, first: places([1, 2, 3, 4, 5], "<|pad|>") },
      { kind: "emptyResponse", count: 1, first: places([9], "rejected") },
    ];
    const options = optionsOf(join(folder, "cache"), { path });
    for (const isFound of [false, true]) {
      const { store, found } = await openAll(options);
      assert.equal(found, isFound);
      assert.deepEqual(store.statistics.notices, notices);
    }
    const said: [string, string][] = [];
    const { store } = await openAll(options);
    reportSplit("train", store.statistics, (level, message) => said.push([level, message]));
    assert.match(
      said[0][1],
      /^train: 20 pairs, \d+ tokens, the longest \d+; 100 % of responses have an end token$/,
    );
    const warnings = said.filter(([level]) => level === "warning").map(([, message]) => message);
    assert.equal(warnings.length, 4);
    assert.match(
      warnings[2],
      /texts\.jsonl:1: <\|pad\|>: the response ends with .* \(train: 19 of 20 rows\)$/,
    );
    assert.match(warnings[3], /texts\.jsonl:9: rejected: an empty response: .* \(train: 1 of 20 rows\)$/);
    const statistics = {
      ...store.statistics,
      notices: [{ kind: "the column x is not read", count: 2, first: places([3]) }],
    };
    reportSplit("test", statistics, (level, message) => said.push([level, message]));
    assert.match(said.at(-1)![1], /texts\.jsonl:3: the column x is not read \(test: 2 of 20 rows\)$/);
  }));

Deno.test("the cache is found by content: other bytes, tokenizer, template or lengths are other pairs", () =>
  withTemporaryFolder(async (folder) => {
    const cache = join(folder, "cache");
    const path = join(folder, "a.jsonl");
    await copyFile(ROWS, path);
    const options = optionsOf(cache, { path });
    assert.equal((await openAll(options)).found, false);

    const moved = join(folder, "moved.jsonl");
    await copyFile(ROWS, moved);
    const elsewhere = await openAll(optionsOf(cache, { path: moved }));
    assert.equal(elsewhere.found, true);
    assert.equal(elsewhere.pairs[2].where, `${moved}:3`);

    for (
      const change of [
        { tokenizer: { ...tokenizer, fingerprint: "other" } },
        { tokenizer: { ...tokenizer, chatTemplate: tokenizer.chatTemplate + " " } },
        { maxLength: 127 },
        { maxPromptLength: 63 },
        { truncationMode: "keep_start" as const },
        { usesRejected: false },
        { autoInsertEmptySystemMsg: false },
        { vocabSize: 416 },
        { mixer: [{ path, share: 0.5 }] },
      ]
    ) {
      const [first, second] = [
        await openAll({ ...options, ...change }),
        await openAll({ ...options, ...change }),
      ];
      assert.deepEqual([first.found, second.found], [false, true], JSON.stringify(Object.keys(change)));
    }
    assert.equal((await openAll({ ...options, overwriteCache: true })).found, false);

    await appendFile(path, '{"prompt": "P", "chosen": " C", "rejected": " R"}\n');
    const longer = await openAll(options);
    assert.deepEqual([longer.found, longer.pairs.length], [false, 28]);
  }));

Deno.test("a data file of the same size is read again after a change, and not before one", () =>
  withTemporaryFolder(async (folder) => {
    const cache = join(folder, "cache");
    const path = join(folder, "a.jsonl");
    const row = (answer: string) => `{"prompt": "P", "chosen": " ${answer}", "rejected": " R"}\n`;
    const past = new Date(Date.now() - 60_000);
    await writeFile(path, row("A"));
    await utimes(path, past, past);
    assert.equal((await openAll(optionsOf(cache, { path }))).found, false);
    await writeFile(path, row("B"));
    await utimes(path, past, past);
    const changed = await openAll(optionsOf(cache, { path }));
    assert.equal(changed.found, false);
    assert.match(tokenizer.decode(changed.pairs[0].chosen.ids), /B/);
  }));

Deno.test("a damaged cache is noticed, said and made again, wherever the damage is", () =>
  withTemporaryFolder(async (cache) => {
    const options = optionsOf(cache);
    const { pairs } = await openAll(options);
    const [name] = await readdir(join(cache, "pairs"));
    const path = join(cache, "pairs", name);
    const whole = await readFile(path);
    const damages: (() => Promise<void>)[] = [0, 1, 31, 32, whole.length >> 1, whole.length - 1].map(
      (size) => () => truncate(path, size),
    );
    for (let at = 0; at < whole.length; at = at < whole.length - 40 ? at + 211 : at + 1) {
      damages.push(async () => {
        const bytes = Buffer.from(whole);
        bytes[at] ^= 0x10;
        await writeFile(path, bytes);
      });
    }
    damages.push(() => appendFile(path, "x"));
    for (const damage of damages) {
      await damage();
      const again = await openAll(options);
      assert.match(again.notes.join(), /cached pairs are damaged: tokenizing again/);
      assertSame(again.pairs, pairs);
    }
    assertEqualBytes(await readFile(path), whole);
  }));

Deno.test("a row that cannot be used is named, and nothing is left in the cache", () =>
  withTemporaryFolder(async (folder) => {
    const cache = join(folder, "cache");
    await rejects(openPairs(optionsOf(cache, { vocabSize: 300 })), /rows\.jsonl:1: expected token ids below/);
    const path = join(folder, "a.jsonl");
    await writeFile(path, "\n");
    await rejects(
      openPairs(optionsOf(cache, { path })),
      /dataset_mixer: expected rows in the split "train", found none in .*a\.jsonl/,
    );
    await writeFile(path, '\n{"chosen": []}\n');
    await rejects(
      openPairs(optionsOf(cache, { path })),
      /a\.jsonl:2: expected a key "rejected", found "chosen"/,
    );
    const numbers = join(GOLDEN, "numbers.parquet");
    await rejects(
      openPairs(optionsOf(cache, { path: numbers })),
      /numbers\.parquet:row 0: chosen: expected a list/,
    );
    const stop = AbortSignal.abort();
    await assert.rejects(openPairs(optionsOf(cache, { signal: stop })), { name: "AbortError" });
    assert.deepEqual(await readdir(join(cache, "pairs")), []);
    await writeFile(join(folder, "file"), "");
    await rejects(
      openPairs(optionsOf(join(folder, "file", "cache"))),
      /cache .*cannot be written: .*SIMPER_CACHE/,
    );
  }));

Deno.test("two that tokenize the same at once both get it", () =>
  withTemporaryFolder(async (cache) => {
    const [one, two] = await Promise.all([openAll(optionsOf(cache)), openAll(optionsOf(cache))]);
    assertSame(one.pairs, two.pairs);
    assert.equal((await readdir(join(cache, "pairs"))).length, 1);
  }));

Deno.test("a file far larger than what is kept of it streams through", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "long.jsonl");
    const cache = join(folder, "cache");
    await mkdir(cache);
    const filler = "x".repeat(2000);
    const rows = Array.from(
      { length: 1000 },
      (_, i) => `{"prompt":"${i}","chosen":" a","rejected":" b","f":"${filler}"}\n`,
    );
    for (let i = 0; i < 200; i++) await appendFile(path, rows.join(""));
    const characters = {
      ...tokenizer,
      encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
    };
    const before = Deno.memoryUsage().rss;
    let most = 0;
    const store = await openPairs(optionsOf(cache, {
      path,
      tokenizer: characters,
      onProgress: ({ done }) => {
        if (done % 4096 === 0) most = Math.max(most, Deno.memoryUsage().rss - before);
      },
    }));
    assert.equal(store.length, 200_000);
    const [last] = await store.read([199_999]);
    assert.equal(last.where, `${path}:200000`);
    await store.close();
    // The file has 409 MB; of a row 44 bytes are kept.
    assert.ok(most < 300e6, `${most} bytes more`);
  }));

Deno.test("other names for columns are other pairs in the cache, and rows of other shapes are their own places", async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "a.csv");
    await writeFile(
      path,
      'prompt,question,chosen,rejected\n"two\nlines",Is it late?," Yes."," No."\n,Q, a, b\n',
    );
    const named = (columns: [string, string][]) =>
      optionsOf(folder, { mixer: [{ path, share: 1, columns: new Map(columns) }] });
    const first = await openAll(named([["prompt", "system"], ["question", "prompt"]]));
    assert.equal(first.found, false);
    assert.deepEqual(first.pairs.map(({ where }) => where), [`${path}:2`, `${path}:4`]);
    assert.equal((await openAll(named([["prompt", "system"], ["question", "prompt"]]))).found, true);
    const other = await openAll(named([["question", "system"], ["prompt", "prompt"]]));
    assert.equal(other.found, false);
    assert.notDeepEqual(other.pairs[0].chosen, first.pairs[0].chosen);
    await writeFile(path, "prompt,completion,label\np,a,1\n");
    await rejects(openAll(optionsOf(folder, { path })), /a\.csv:2: expected a key "chosen", found .*\(KTO\)/);
  });
});
Deno.test("data that change while they are tokenized are told, and nothing is kept of them", () =>
  withTemporaryFolder(async (folder) => {
    const golden = (await readFile(ROWS, "utf8")).trim().split("\n");
    const text = Array.from({ length: 3000 }, (_, i) => golden[i % golden.length]).join("\n") + "\n";
    const path = join(folder, "train.jsonl");
    const disturbances: Record<string, () => void> = {
      "a row that is added": () => appendFileSync(path, golden[0] + "\n"),
      "another text of the same length": () => writeFileSync(path, text.replace("a", "b")),
      "half of the file": () => truncateSync(path, text.length / 2 + 10),
      "rows that are being written": () => writeFileSync(path, text.slice(0, -1).replaceAll("}\n", " \n")),
      "no file any more": () => rmSync(path),
      "a file more": () => writeFileSync(join(folder, "train-2.jsonl"), golden[0]),
    };
    for (const [name, disturb] of Object.entries(disturbances)) {
      await writeFile(path, text);
      const cache = join(folder, "cache");
      let once = true;
      const run = openAll(optionsOf(cache, {
        path: folder,
        onProgress: ({ what }) => {
          if (!what.startsWith("tokenizing")) return;
          if (once) disturb();
          once = false;
        },
      }));
      if (name === "a file more") await run;
      else await rejects(run, /train\.jsonl: (changed while it was tokenized|cannot be read)/);
      const kept = await readdir(join(cache, "pairs"));
      assert.equal(kept.length, name === "a file more" ? 1 : 0, name);
    }
  }));

Deno.test("what killed processes left in the cache is removed after a day, and nothing else", () =>
  withTemporaryFolder(async (cache) => {
    const [pairs, hashes] = [join(cache, "pairs"), join(cache, "hashes")];
    const day = 24 * 3600;
    const now = Date.now() / 1000;
    for (
      const [folder, name, age] of [
        [pairs, "a.1.tmp", 2 * day],
        [pairs, "b.2.tmp", day / 2],
        [pairs, "c", 2 * day],
        [hashes, "d.json.3.tmp", 2 * day],
      ] as const
    ) {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, name), "");
      await utimes(join(folder, name), now - age, now - age);
    }
    await openAll(optionsOf(cache));
    const left = [...await readdir(pairs), ...await readdir(hashes)];
    assert.deepEqual(left.filter((name) => name.length < 20).sort(), ["b.2.tmp", "c"]);
  }));
