import { mergedSources } from "../adapters/merge.ts";
import { findModel } from "../adapters/model.ts";
import { checkAdapter, openAdapter } from "../adapters/open.ts";
import { saveWeights } from "../adapters/save.ts";
import { realPath } from "../checkpoint/output.ts";
import { checkEmpty, checkNoAdapters, checkNoRun } from "../checkpoint/start.ts";
import { KEYS } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { heed } from "../progress/heed.ts";
import { readModelFiles, writeModelFiles } from "../hub/model_files.ts";
import { netOf } from "../models/models.ts";
import type { LogLevel } from "../report/log.ts";
import { withProgress } from "../safetensors/write.ts";
import { checkFolder } from "../files/whole_file.ts";
import { openModel } from "../weights/weights.ts";
import { ADAPTER_OPTION, openLog } from "./answering.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitOwnWords } from "./words.ts";

/** `simper merge` */
export const merge: Command = {
  usage: "MODEL [--adapter=DIR] --output_dir=DIR",
  about:
    "MODEL is a folder of adapters, or the model that --adapter is for. The result is the model in the types " +
    "of its own files, as PEFT's merge_and_unload() makes it; its folder is printed.",
  options: [
    ADAPTER_OPTION,
    { name: "output_dir", value: "DIR", doc: "Folder to write the model to." },
    {
      name: "overwrite_output_dir",
      doc: "Write to it though it is not empty; a folder with a run or adapters is refused.",
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
  const { positionals, options } = splitOwnWords(words, merge);
  const { log_level: logLevel = "info" } = readValues<{ log_level: LogLevel }>(options, {
    log_level: KEYS.logLevel.type,
  });
  const output = options.get("output_dir");
  if (positionals.length !== 1 || output === undefined) {
    throw new UserError(`expected: simper merge ${merge.usage}`, 2);
  }
  const refuseRead = async (folders: readonly string[]) => {
    const place = await realPath(output);
    for (const folder of folders) {
      if (await realPath(folder) !== place) continue;
      throw new UserError(`--output_dir: ${output} is what is read: name another folder`, 2);
    }
  };
  const ofAdapter = options.get("adapter");
  await refuseRead([positionals[0], ...ofAdapter === undefined ? [] : [ofAdapter]]);
  if (options.has("overwrite_output_dir")) {
    await checkNoRun(output);
    await checkNoAdapters(output);
  } else {
    await checkEmpty(output);
  }
  const { progress, log } = openLog(logLevel);
  const found = await findModel(positionals[0], {
    adapter: ofAdapter,
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  }).finally(() => progress.finish());
  if (found.adapter === undefined) {
    throw new UserError(`${positionals[0]}: has no adapters: name them as --adapter=DIR`, 2);
  }
  await refuseRead([found.folder, found.adapter]);
  await using held = new AsyncDisposableStack();
  const model = held.adopt(
    await openModel(found.folder, (message) => log.warning(message)),
    (model) => model.close(),
  );
  const adapter = held.adopt(await openAdapter(found.adapter), (adapter) => adapter.close());
  checkAdapter(adapter, netOf(model.model));
  const files = await readModelFiles(found.folder);
  await checkFolder(output);
  const sources = mergedSources(model, adapter).map((source) => ({
    ...source,
    chunks: async function* () {
      for await (const chunk of source.chunks()) {
        await heed(stop.signal);
        yield chunk;
      }
    },
  }));
  await saveWeights(output, withProgress(sources, "merging", (done) => progress.update(done)), undefined)
    .finally(() => progress.finish());
  await writeModelFiles(files, output);
  print(output);
  return 0;
}
