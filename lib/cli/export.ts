import { findModel } from "../adapters/model.ts";
import { basename, join, resolve } from "node:path";
import { KEYS } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { exportGguf } from "../export/export_gguf.ts";
import { GGML_TYPES, type GgmlType } from "../export/ggml.ts";
import { shorten } from "../text/json.ts";
import { createLogger, type LogLevel } from "../report/log.ts";
import { ADAPTER_OPTION } from "./answering.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitOwnWords } from "./words.ts";

const TYPES = Object.keys(GGML_TYPES) as GgmlType[];

/** `simper export` */
export const exportModel: Command = {
  usage: "MODEL [--adapter=DIR] [--format=gguf] [--type=TYPE] [--output=FILE.gguf]",
  about: "The file is for llama.cpp and what is built on it; its name is printed.",
  options: [
    ADAPTER_OPTION,
    { name: "format", value: "FORMAT", doc: "gguf." },
    {
      name: "type",
      value: "TYPE",
      doc: `How matrices are stored: ${TYPES.join(", ")}; by default as the model's files are.`,
    },
    {
      name: "output",
      value: "FILE.gguf",
      doc: "By default MODEL's name and the type, in its folder; for a model of the Hub, in this one.",
    },
    {
      name: "log_level",
      value: "LEVEL",
      doc: "Least level of messages: debug, info (the default), warning or error.",
    },
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { positionals, options } = splitOwnWords(words, exportModel);
  const { log_level: logLevel = "info" } = readValues<{ log_level: LogLevel }>(options, {
    log_level: KEYS.logLevel.type,
  });
  const [format = "gguf", type, output] = ["format", "type", "output"].map((name) => options.get(name));
  const problems = [
    positionals.length !== 1 && `expected: simper export ${exportModel.usage}`,
    format !== "gguf" && `--format: expected gguf, found ${shorten(format)}`,
    type !== undefined && !isType(type) &&
    `--type: expected one of ${TYPES.join(", ")}, found ${shorten(type)}`,
    // No other file is written over by a slip.
    output !== undefined && !output.endsWith(".gguf") &&
    `--output: expected a name that ends with .gguf, found ${shorten(output)}`,
  ].filter((problem) => problem !== false);
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);

  const [name] = positionals;
  const progress = progressLine({ logLevel });
  const log = createLogger(logLevel, (text) => progress.write(text));
  try {
    const adapter = options.get("adapter");
    const found = await findModel(name, {
      adapter,
      log: (level, message) => log[level](message),
      onProgress: (done) => progress.update(done),
      signal: stop.signal,
    });
    // Its own folder is that of the adapters, where there are any.
    const [subject, folder] = [adapter ?? name, found.adapter ?? found.folder];
    const stem = `${basename(resolve(subject.replace(/@.*$/, "")))}${
      type === undefined ? "" : `-${type}`
    }.gguf`;
    const file = output ?? (folder === subject ? join(folder, stem) : stem);
    await exportGguf(found, file, type as GgmlType | undefined, {
      warn: log.warning,
      onProgress: (done) => {
        stop.signal.throwIfAborted();
        progress.update(done);
      },
    });
    progress.finish();
    print(file);
  } finally {
    progress.finish();
  }
  return 0;
}

const isType = (text: string): text is GgmlType => Object.hasOwn(GGML_TYPES, text);
