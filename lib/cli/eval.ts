import { basename, dirname } from "node:path";
import { readConfig, readOverrides } from "../config/parse.ts";
import { integer } from "../config/values.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import { UserError } from "../errors.ts";
import { evaluateModels } from "../evaluation/evaluate.ts";
import { readAnnotations, readGamed, winRates } from "../evaluation/judge.ts";
import { type Shown, tablesHtml, tablesOf, tablesText, winRateTable } from "../evaluation/report.ts";
import { shorten } from "../json.ts";
import { createLogger, isShown } from "../report/log.ts";
import { writeWhole } from "../whole_file.ts";
import { VERSION } from "../version.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { splitWords, type Words } from "./words.ts";

/** `simper eval` */
export const evaluation: Command = {
  usage: "[CONFIG] MODEL [MODEL ...] [--text=FILE] [--annotations=FILE] [--key=value ...]",
  about:
    "CONFIG is a word that ends in .yaml. Each MODEL is a folder or a name on the Hub; the others are compared with the first. Pairs are those of " +
    "dataset_mixer, of the run file or the command line, cut as max_length says; per_device_eval_batch_size of them " +
    "are run at once. Without MODEL it is the run file's.",
  options: [
    {
      name: "split",
      value: "NAME",
      doc: "Split of the data; by default that of dataset_splits for tests, or test.",
    },
    { name: "text", value: "FILE", doc: "Perplexity on this plain text, in windows of max_length tokens." },
    { name: "stride", value: "N", doc: "Tokens from one window to the next; by default half of max_length." },
    {
      name: "output",
      value: "FILE.json",
      doc: "Write all figures to this file, and a page beside it as FILE.html.",
    },
    {
      name: "annotations",
      value: "FILE",
      doc: "Win rates from a judge's annotations.json, as alpaca_eval computes them; no model is run.",
    },
    {
      name: "gamed",
      value: "FILE",
      doc: "alpaca_eval's df_gamed.csv, for its length_controlled_v1; without it, length_controlled_minimal.",
    },
  ],
  takesRunFile: "named",
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitWords(words, evaluation);
  const { options } = split;
  const output = options.get("output");
  if (output !== undefined && !output.endsWith(".json")) {
    throw new UserError(`--output: expected a name that ends in .json, found ${shorten(output)}`, 2);
  }
  const { tables, values, subjects, device } = options.has("annotations")
    ? await judged(split)
    : await measured(split, stop);
  if (output !== undefined) {
    const [folder, name] = [dirname(output), basename(output)];
    await writeWhole(folder, name, `${JSON.stringify({ version: VERSION, ...values }, null, 2)}\n`);
    await writeWhole(folder, `${name.slice(0, -".json".length)}.html`, tablesHtml(tables, subjects, device));
  }
  print(tablesText(tables));
  return 0;
}

interface Found {
  tables: Shown[];
  values: object;
  subjects: readonly string[];
  device?: string;
}

/** What a judge's annotations say. */
async function judged({ options, positionals, overrides }: Words): Promise<Found> {
  const others = [
    ...positionals,
    ...overrides,
    ...["split", "text", "stride"].filter((name) => options.has(name)),
  ];
  if (others.length > 0) {
    throw new UserError(
      `--annotations: expected nothing else to measure, found ${shorten(others.join(" "))}`,
      2,
    );
  }
  const file = options.get("annotations")!;
  const gamed = options.get("gamed");
  const annotations = await readAnnotations(file);
  const rates = winRates(annotations, gamed === undefined ? undefined : await readGamed(gamed));
  return { tables: [winRateTable(rates, file)], values: rates, subjects: [rates.generator, rates.baseline] };
}

/** What models say of pairs and of a text. */
async function measured({ options, positionals, overrides }: Words, stop: Stop): Promise<Found> {
  const isRunFile = (word: string) => /\.ya?ml$/.test(word);
  const files = positionals.filter(isRunFile);
  const named = positionals.filter((word) => !isRunFile(word));
  const text = options.get("text");
  if (files.length > 1) {
    throw new UserError(`expected one run file, found ${files.map((f) => shorten(f)).join(" and ")}`, 2);
  }
  if (options.has("gamed")) throw new UserError("--gamed: expected --annotations with it", 2);
  if (files.length === 0 && named.length === 0) {
    throw new UserError(`expected: simper eval ${evaluation.usage}`, 2);
  }
  const names = evaluation.options!.map(({ name }) => name);
  const { config, ignored } = files.length > 0
    ? await readConfig(files[0], overrides, names)
    : readOverrides([`--model_name_or_path=${named[0]}`, ...overrides], names);
  const models = named.length > 0 ? named : [config.modelNameOrPath];
  if (config.datasetMixer.length === 0 && text === undefined) {
    throw new UserError("expected --dataset_mixer={PATH: 1.0}, a run file that has it, or --text=FILE", 2);
  }
  const stride = readStride(options.get("stride"), config.maxLength);
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (line) => progress.write(line));
  for (const line of ignored) log.info(line);
  if (forcesMistralTemplate(config)) log.info(FORCED);
  if (!isShown("warning", config.logLevel)) stop.answer({});
  const found = await evaluateModels(models, config, {
    ...{ split: options.get("split"), text, stride },
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
    readsOnly: true,
  }).finally(() => progress.finish());
  return { tables: tablesOf(found), values: found, subjects: models, device: found.device };
}

function readStride(text: string | undefined, maxLength: number): number | undefined {
  if (text === undefined) return;
  const type = integer({ min: 1, max: maxLength });
  const stride = type.read(text);
  if (stride !== undefined) return stride;
  throw new UserError(`--stride: expected ${type.expected}, within max_length, found ${shorten(text)}`, 2);
}
