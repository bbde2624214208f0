import { readConfig } from "../config/parse.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import { countRows, isPart } from "../data/read.ts";
import { filesOf } from "../data/splits.ts";
import type { PairStore } from "../data/store.ts";
import { type FetchEvents, resolveSources } from "../hub/hub.ts";
import { prepare } from "../planning/prepare.ts";
import { describePair, describeSplit, reportBalance } from "../report/data_report.ts";
import { createLogger, isShown, printable } from "../report/log.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { takesEscapeCodes } from "./terminal.ts";
import { splitRunWords } from "./words.ts";

/** Pairs of a split that are shown, besides one that was cut. */
const SHOWN = 3;

/** `simper data` */
export const data: Command = { usage: "[CONFIG] [--key=value ...]", takesRunFile: true, run };

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { file, overrides, names } = splitRunWords(words, data);
  const { config, ignored } = await readConfig(file, overrides, names);
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (text) => progress.write(text));
  for (const message of ignored) log.info(message);
  if (forcesMistralTemplate(config)) log.info(FORCED);
  if (!isShown("warning", config.logLevel)) stop.answer({});
  const events: FetchEvents = {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  };
  // Weights are not looked at, so they need not be fetched.
  const sources = await resolveSources({ ...config, fromScratch: true, refModel: undefined }, events);
  const prepared = await prepare(config, { ...events, sources, readsOnly: true })
    .finally(() => progress.finish());

  reportBalance(prepared.train.statistics, config, (level, message) => log[level](message));
  const hasColors = takesEscapeCodes(Deno.stdout) && !Deno.noColor;
  const stores = [prepared.train, prepared.test].filter((store) => store !== undefined);
  for (const [i, store] of stores.entries()) {
    const split = prepared.splits[i];
    print(`${i > 0 ? "\n" : ""}== ${split} ==`);
    for (const { path, share, config } of sources.mixer) {
      if (!isPart(split, share)) continue;
      const rows = await countRows(await filesOf(path, split, config));
      print(`${path}: the first ${Math.trunc(share * rows)} of ${rows} rows (share ${share})`);
    }
    print(printable(describeSplit(store, config)));
    for (const index of examplesOf(store)) {
      const [pair] = await store.read([index]);
      const [what, all] = pair.desirable === undefined ? ["pair", "responses"] : ["response", "response"];
      const cut = pair.truncated
        ? `, ${pair.truncated === "prompt" ? "prompt" : `prompt and ${all}`} cut`
        : "";
      print(printable(`\n-- ${what} ${index + 1} of ${store.length}, ${pair.where}${cut} --`));
      const textsOf = (lists: number[][]) => prepared.pool.texts(lists, pair.where);
      print(await describePair(pair, store.columns.prefix[index], textsOf, hasColors));
    }
  }
  await prepared.close();
  return 0;
}

/** The first pairs, and the first that was cut. */
function examplesOf({ length, columns }: PairStore): number[] {
  const first = Array.from({ length: Math.min(SHOWN, length) }, (_, i) => i);
  const cut = columns.truncated.findIndex((kind) => kind > 0);
  return cut < SHOWN ? first : [...first, cut];
}
