/**
 * Tokens a second: the texts of a file's pairs by the tokenizer alone, beside Python's `tokenizers` on the same
 * texts; then from the file to the cache of pairs, in this thread and in workers.
 *
 *   deno run -A bench/tokenize.ts PAIRS.jsonl[.gz] MODEL_FOLDER
 *
 * PYTHON=/path/to/python, with the package `tokenizers`, adds Python's.
 */
import { openPairs } from "../lib/data/pairs.ts";
import { TokenizerPool } from "../lib/data/pool.ts";
import { readRows } from "../lib/data/read.ts";
import { render } from "../lib/data/render.ts";
import { loadTokenizer } from "../lib/tokenizer/tokenizer.ts";

const RULES = {
  autoInsertEmptySystemMsg: true,
  usesRejected: true,
  maxLength: 2048,
  maxPromptLength: 1800,
  truncationMode: "keep_end" as const,
};

const [file, folder] = Deno.args;
if (!file || !folder) {
  console.error("usage: deno run -A bench/tokenize.ts PAIRS.jsonl[.gz] MODEL_FOLDER");
  Deno.exit(2);
}

function show(what: string, tokens: number, start: number): void {
  const seconds = (performance.now() - start) / 1000;
  const rate = Math.round(tokens / seconds).toLocaleString("en-US");
  console.log(`${what.padEnd(44)} ${tokens} tokens  ${seconds.toFixed(2)} s  ${rate} tokens/s`);
}

const renderer = await loadTokenizer(folder);
const texts: string[] = [];
for await (const { row } of readRows(file)) {
  const { prompt, chosen, rejected } = render(row, renderer, RULES);
  texts.push(prompt, prompt + chosen, prompt + rejected);
}
const tokenizer = await loadTokenizer(folder);
for (const what of ["encode, first time", "encode, again"]) {
  const start = performance.now();
  show(what, texts.reduce((sum, text) => sum + tokenizer.encode(text).length, 0), start);
}

const python = Deno.env.get("PYTHON");
if (python) {
  const script = new URL("peers/tokenizer_speed.py", import.meta.url).pathname;
  const child = new Deno.Command(python, { args: [script, folder], stdin: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(texts)));
  await writer.close();
  await child.status;
}

for (const workers of [0, 1, navigator.hardwareConcurrency]) {
  const cache = await Deno.makeTempDir();
  const start = performance.now();
  const pool = workers > 0 ? await TokenizerPool.open(folder, { workers }) : undefined;
  const store = await openPairs({
    ...RULES,
    mixer: [{ path: file, share: 1 }],
    split: "train",
    tokenizer: pool ?? await loadTokenizer(folder),
    vocabSize: renderer.vocabSize,
    cache,
  });
  show(`file to pairs, ${workers || "no"} workers, loading counted`, store.statistics.tokens, start);
  await store.close();
  pool?.close();
  await Deno.remove(cache, { recursive: true });
}
