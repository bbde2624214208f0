import { positive } from "../config/counts.ts";
import { UserError } from "../errors.ts";
import type { Model } from "../generation/model.ts";
import type { AnswerEnd } from "../generation/pieces.ts";
import { type PromptRow, readPrompts, withSystem } from "../generation/prompt_rows.ts";
import { randomSeed } from "../generation/sampling.ts";
import { shorten } from "../json.ts";
import { printable } from "../report/log.ts";
import { ANSWER_OPTIONS, type AnswerWords, loadShown, openLog, readAnswerWords } from "./answering.ts";
import { type AnswerRow, AnswerFile } from "./answer_file.ts";
import type { Command } from "./command.ts";
import { print, printText } from "./output.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitOwnWords, type Words } from "./words.ts";

/** `simper generate` */
export const generate: Command = {
  usage: "MODEL [MODEL ...] [--prompt=TEXT | --input=FILE] [--output=FILE.jsonl] [--temperature=N ...]",
  about: "Without --prompt and --input the prompt is what comes on standard input, all of it. How tokens are drawn is as " +
    "the model's generation_config.json says, but for what is given here. Answers to one prompt are text, those to a file, " +
    "and those in one, JSON Lines.",
  options: [
    { name: "prompt", value: "TEXT", doc: "A prompt: a user's message, or text for a model without chat template." },
    {
      name: "input",
      value: "FILE",
      doc: "Prompts, a row each: prompt as text or messages, or messages; in any format that training reads.",
    },
    {
      name: "output",
      value: "FILE.jsonl",
      doc: "Add the answers to this file as they are made; the same command goes on with one that was stopped.",
    },
    { name: "overwrite", doc: "Begin --output anew." },
    { name: "num_return_sequences", value: "N", doc: "Answers to each prompt: 1." },
    { name: "batch_size", value: "N", doc: "Answers that are made at a time for a file: 8." },
    ...ANSWER_OPTIONS,
  ],
  run,
};

/** A prompt to be answered, in the order of the answers. */
interface Job extends PromptRow {
  model: string;
  /** Among all of a model: added to the seed. */
  index: number;
  /** What stands above its answer where there are more. */
  title: string;
}

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitOwnWords(words, generate);
  const how = readAnswerWords(split);
  const { num_return_sequences: count = 1, batch_size: batchSize = 8 } = readValues<
    { num_return_sequences: number; batch_size: number }
  >(split.options, { num_return_sequences: positive, batch_size: positive });
  checkWords(split, count, how);
  const output = split.options.get("output");
  const prompts = await promptsOf(split);
  const isFile = split.options.has("input") || output !== undefined;
  const jobs = split.positionals.flatMap((model) => jobsOf(model, prompts, how, count));
  const seed = how.sampling.seed ?? randomSeed();
  const shown = openLog(how.logLevel);
  using file = output === undefined ? undefined : new AnswerFile(output, split.options.has("overwrite"));
  const done = file?.check(jobs.map(({ model, prompt }) => ({ model, prompt, options: how.given }))) ?? 0;
  if (done > 0) shown.log.info(`${output}: goes on after its ${done} answers of ${jobs.length}`);
  const left = jobs.slice(done);

  const isTerminal = Deno.stdout.isTerminal();
  const safe = isTerminal ? printable : (text: string) => text;
  for (const name of new Set(left.map(({ model }) => model))) {
    const own = left.filter(({ model }) => model === name);
    const answers = isFile ? Math.min(batchSize, own.length) : 1;
    await using model = await loadShown(name, { maxLength: how.maxLength, answers }, shown, stop);
    const ask = ({ prompt, index }: Job, signal: AbortSignal) =>
      model.generate(prompt, {
        ...how.sampling,
        maxNewTokens: how.maxNewTokens,
        stop: how.stop,
        seed: (seed + index) % Number.MAX_SAFE_INTEGER,
        signal,
      });
    const [start, ends] = [performance.now(), [] as AnswerEnd[]];
    if (isFile) {
      await using _ = finished(shown.progress);
      for await (const row of inOrder(own, 2 * answers, ask, stop.signal)) {
        ends.push(row.end);
        const { end: { finishReason, tokens }, job: { prompt }, response } = row;
        const line: AnswerRow = { prompt, response, model: name, finish_reason: finishReason, tokens, options: how.given };
        if (file) file.add(line);
        else {
          if (isTerminal) shown.progress.finish();
          print(safe(JSON.stringify(line)));
        }
        if (file || !isTerminal) {
          shown.progress.update({ what: "answering", done: ends.length, total: own.length, unit: "prompts" });
        }
        if (file) {
          stop.answer({ text: `stopping: the same command goes on after the ${done + ends.length} answers in ${output}` });
        }
      }
    } else {
      for (const job of own) {
        if (jobs.length > 1) print(`${job === jobs[0] ? "" : "\n"}== ${safe(job.title)} ==`);
        ends.push(await stream(ask(job, stop.signal), safe));
      }
    }
    tell(name, ends, (performance.now() - start) / 1000, shown.log.info);
  }
  return 0;
}
