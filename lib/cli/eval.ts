import { basename, dirname } from "node:path";
import { readConfig, readOverrides } from "../config/parse.ts";
import { positive } from "../config/counts.ts";
import { integer } from "../config/values.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import { UserError } from "../errors.ts";
import { alpacaEval, TEMPERATURE } from "../evaluation/alpaca_eval.ts";
import { answerBenchmarks } from "../evaluation/answer.ts";
import { evaluateModels } from "../evaluation/evaluate.ts";
import { readAnnotations, readGamed, winRates } from "../evaluation/judge.ts";
import { mtBench } from "../evaluation/mt_bench.ts";
import { type Shown, tablesHtml, tablesOf, tablesText, winRateTable } from "../evaluation/report.ts";
import { SAMPLING_KEYS } from "../generation/sampling.ts";
import { checkEngine } from "../gpu/device.ts";
import { shorten } from "../text/json.ts";
import type { Progress } from "../progress/progress.ts";
import { createLogger, isShown } from "../report/log.ts";
import { checkFolder, writeWhole } from "../files/whole_file.ts";
import { VERSION } from "../program/version.ts";
import { ADAPTER_OPTION, adapterOf } from "./answering.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitWords, type Words } from "./words.ts";

/** Of a question and its answers, where nothing says otherwise: MT-Bench's have two of 1,024. */
const MAX_LENGTH = 4096;

/** `simper eval` */
export const evaluation: Command = {
  usage:
    "[CONFIG] MODEL [MODEL ...] [--text=FILE | --alpaca_eval=FILE | --mt_bench=FILE | --annotations=FILE] " +
    "[--key=value ...]",
  about: "CONFIG is a word that ends in .yaml. Each MODEL is a folder or a name on the Hub; the others are " +
    "compared with the first. Pairs, or responses with a label, are those of dataset_mixer, of the run file " +
    "or the command line, cut as max_length says; per_device_eval_batch_size of them are run at once. " +
    "Without MODEL it is the run file's.",
  options: [
    ADAPTER_OPTION,
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
      doc:
        "Write all figures to this file, and a page beside it as FILE.html. For answers, a folder, results by " +
        "default, or the one file that is to be written.",
    },
    {
      name: "alpaca_eval",
      value: "FILE.json",
      doc:
        "Have each model answer AlpacaEval's instructions, into OUTPUT/MODEL/model_outputs.json; answers " +
        "that are there are kept.",
    },
    {
      name: "mt_bench",
      value: "FILE.jsonl",
      doc:
        "The same for MT-Bench's questions, at each category's temperature, into OUTPUT/model_answer/MODEL.jsonl.",
    },
    {
      name: "temperature",
      value: "N",
      doc: `Of the answers for AlpacaEval: ${TEMPERATURE}; 0 for the most likely token each time.`,
    },
    {
      name: "max_new_tokens",
      value: "N",
      doc:
        "Most tokens of an answer: 2,048 for AlpacaEval, 1,024 for MT-Bench; less where max_length, without a run " +
        `file ${MAX_LENGTH.toLocaleString("en-US")}, leaves less.`,
    },
    { name: "overwrite", doc: "Begin files of answers anew." },
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

/** Options that need others, or leave no room for them. */
const FIGURES = ["split", "text", "stride"];
const ANSWERS = ["alpaca_eval", "mt_bench", "temperature", "max_new_tokens", "overwrite"];

/** Where nothing is cut to max_prompt_length: its default is not to be said against a max_length. */
const UNCUT = ["--max_prompt_length=1"];

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitWords(words, evaluation);
  const { options } = split;
  if (options.has("alpaca_eval") || options.has("mt_bench")) {
    print((await answered(split, stop)).join("\n"));
    return 0;
  }
  const lonely = ANSWERS.find((name) => options.has(name));
  if (lonely !== undefined) {
    throw new UserError(`--${lonely}: expected --alpaca_eval=FILE or --mt_bench=FILE with it`, 2);
  }
  const output = options.get("output");
  if (output !== undefined && !output.endsWith(".json")) {
    throw new UserError(`--output: expected a name that ends in .json, found ${shorten(output)}`, 2);
  }
  // Before minutes are spent on what could not be kept.
  if (output !== undefined) await checkFolder(dirname(output));
  const { tables, values, subjects, device } = options.has("annotations")
    ? await judged(split)
    : await measured(split, stop);
  // What was measured is seen, though it cannot be written.
  try {
    if (output !== undefined) {
      const [folder, name] = [dirname(output), basename(output)];
      await writeWhole(folder, name, `${JSON.stringify({ version: VERSION, ...values }, null, 2)}\n`);
      await writeWhole(
        folder,
        `${name.slice(0, -".json".length)}.html`,
        tablesHtml(tables, subjects, device),
      );
    }
  } finally {
    print(tablesText(tables));
  }
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
    ...FIGURES.filter((name) => options.has(name)),
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

/** Answers of models to benchmarks. @returns the files. */
async function answered(split: Words, stop: Stop): Promise<string[]> {
  const { options } = split;
  const others = [...FIGURES, "annotations", "gamed"].filter((name) => options.has(name));
  if (others.length > 0) {
    throw new UserError(`--${others[0]}: expected neither --alpaca_eval nor --mt_bench with it`, 2);
  }
  const [instructions, questions] = [options.get("alpaca_eval"), options.get("mt_bench")];
  if (instructions === undefined && options.has("temperature")) {
    throw new UserError("--temperature: MT-Bench's categories have their own", 2);
  }
  const { temperature, max_new_tokens: maxNewTokens } = readValues<
    { temperature: number; max_new_tokens: number }
  >(options, { temperature: SAMPLING_KEYS.temperature.type, max_new_tokens: positive });
  const { config, models, ...run } = await readRun(split, stop, [`--max_length=${MAX_LENGTH}`, ...UNCUT]);
  const benchmarks = [
    ...(instructions === undefined ? [] : [await alpacaEval(instructions, temperature)]),
    ...(questions === undefined ? [] : [await mtBench(questions)]),
  ];
  if (isShown("warning", config.logLevel)) {
    stop.answer({ text: "stopping: the same command goes on after the answers that are in the files" });
  }
  return await answerBenchmarks(models, benchmarks, config, {
    ...{ output: options.get("output") ?? "results", overwrite: options.has("overwrite"), maxNewTokens },
    ...run.options,
  }).finally(run.finish);
}

/** What models say of pairs and of a text. */
async function measured(split: Words, stop: Stop): Promise<Found> {
  const { options } = split;
  if (options.has("gamed")) throw new UserError("--gamed: expected --annotations with it", 2);
  const text = options.get("text");
  const isTextAlone = text !== undefined &&
    !split.overrides.some((word) => word.startsWith("--dataset_mixer"));
  const { config, models, ...run } = await readRun(split, stop, isTextAlone ? UNCUT : []);
  if (config.datasetMixer.length === 0 && text === undefined) {
    throw new UserError("expected --dataset_mixer={PATH: 1.0}, a run file that has it, or --text=FILE", 2);
  }
  const { stride } = readValues<{ stride: number }>(options, {
    stride: integer({ min: 1, max: config.maxLength }),
  });
  const found = await evaluateModels(models, config, {
    ...{ split: options.get("split"), text, stride },
    ...run.options,
  }).finally(run.finish);
  return { tables: tablesOf(found), values: found, subjects: models, device: found.device };
}

/** The models, the configuration they are run with, by default the `usual` one, and what shows how far that is. */
async function readRun(
  { positionals, overrides, options: own }: Words,
  stop: Stop,
  usual: readonly string[] = [],
) {
  const isRunFile = (word: string) => /\.ya?ml$/.test(word);
  const files = positionals.filter(isRunFile);
  const named = positionals.filter((word) => !isRunFile(word));
  if (files.length > 1) {
    throw new UserError(`expected one run file, found ${files.map((f) => shorten(f)).join(" and ")}`, 2);
  }
  if (files.length === 0 && named.length === 0) {
    throw new UserError(`expected: simper eval ${evaluation.usage}`, 2);
  }
  const names = evaluation.options!.map(({ name }) => name);
  const { config, ignored } = files.length > 0
    ? await readConfig(files[0], overrides, names)
    : readOverrides([`--model_name_or_path=${named[0]}`, ...usual, ...overrides], names);
  checkEngine(config);
  const models = named.length > 0 ? named : [config.modelNameOrPath];
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (line) => progress.write(line));
  for (const line of ignored) log.info(line);
  if (forcesMistralTemplate(config)) log.info(FORCED);
  if (!isShown("warning", config.logLevel)) stop.answer({});
  const options = {
    log: (level: "debug" | "info" | "warning", message: string) => log[level](message),
    onProgress: (done: Progress) => progress.update(done),
    signal: stop.signal,
    readsOnly: true,
    adapter: adapterOf({ options: own }, models),
  };
  return {
    config,
    models,
    options,
    finish: () => progress.finish(),
  };
}
