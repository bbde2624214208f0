import { positive } from "../config/counts.ts";
import { UserError } from "../errors.ts";
import { AnswerCount } from "../generation/answer_count.ts";
import type { Model } from "../generation/model.ts";
import type { AnswerEnd } from "../generation/pieces.ts";
import { type PromptRow, readPrompts, withSystem } from "../generation/prompt_rows.ts";
import { randomSeed } from "../generation/sampling.ts";
import { shorten } from "../text/json.ts";
import { printable } from "../report/log.ts";
import { AnswerFile } from "./answer_file.ts";
import {
  ANSWER_OPTIONS,
  type AnswerWords,
  findModels,
  loadShown,
  type Log,
  openLog,
  readAnswerWords,
} from "./answering.ts";
import type { Command } from "./command.ts";
import { print, printText } from "./output.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitOwnWords, type Words } from "./words.ts";

/** `simper generate` */
export const generate: Command = {
  usage: "MODEL [MODEL ...] [--prompt=TEXT | --input=FILE] [--output=FILE.jsonl] [--temperature=N ...]",
  about:
    "Without --prompt and --input the prompt is what comes on standard input, all of it. How tokens are drawn is as " +
    "the model's generation_config.json says, but for what is given here. Answers to one prompt are text; those to a " +
    "file of prompts, and those in a file, are JSON Lines. --max_length is 1,024 by default, and " +
    "--max_new_tokens 256 or what generation_config.json says.",
  options: [
    {
      name: "prompt",
      value: "TEXT",
      doc: "What the user says; for a model without chat template, a text to go on with.",
    },
    {
      name: "input",
      value: "FILE",
      doc: "Prompts, a row each: prompt, a text or messages, or messages; in any format that training reads.",
    },
    {
      name: "output",
      value: "FILE.jsonl",
      doc: "Add answers to this file as they are made; the same command goes on with one that was stopped.",
    },
    { name: "overwrite", doc: "Begin --output anew." },
    { name: "num_return_sequences", value: "N", doc: "Answers to each prompt: 1." },
    { name: "batch_size", value: "N", doc: "Answers that are made at a time, for a file: 8." },
    ...ANSWER_OPTIONS,
  ],
  run,
};

/** An answer to be made. */
interface Job extends PromptRow {
  /** What is added to the seed: its place among the answers of a model. */
  index: number;
  /** Which of the answers to its prompt it is, from 1 on, where there are more. */
  number?: number;
}

/** What all models are asked. */
interface Task {
  jobs: readonly Job[];
  how: AnswerWords;
  seed: number;
  log: Log;
  stop: Stop;
}

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitOwnWords(words, generate);
  const { positionals: models, options } = split;
  const how = readAnswerWords(split);
  const { num_return_sequences: count = 1, batch_size: batchSize = 8 } = readValues<
    { num_return_sequences: number; batch_size: number }
  >(options, { num_return_sequences: positive, batch_size: positive });
  checkWords(split, count, how);
  const prompts = await promptsOf(options);
  const jobs = prompts.flatMap(({ prompt, where }, i) =>
    Array.from({ length: count }, (_, j) => ({
      prompt: withSystem(prompt, how.system),
      where,
      index: i * count + j,
      ...count > 1 && { number: j + 1 },
    }))
  );
  const task = { jobs, how, seed: how.sampling.seed ?? randomSeed(), log: openLog(how.logLevel), stop };
  await findModels(models, task.log, stop, { ...how.sampling, count, adapter: how.adapter });
  const output = options.get("output");
  if (output === undefined && !options.has("input")) await show(models, task);
  else await write(models, task, batchSize, output, options.has("overwrite"));
  return 0;
}

function checkWords({ positionals, options }: Words, count: number, { sampling }: AnswerWords): void {
  const problems: string[] = [];
  if (positionals.length === 0) problems.push(`expected: simper generate ${generate.usage}`);
  if (options.has("prompt") && options.has("input")) {
    problems.push("--prompt and --input: expected one of them, found both");
  }
  if (options.has("overwrite") && !options.has("output")) {
    problems.push("--overwrite: expected --output=FILE.jsonl with it");
  }
  if (count > 1 && sampling.temperature === 0) {
    problems.push(`--num_return_sequences: ${count} answers at --temperature=0 would be the same one`);
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
}

async function promptsOf(options: ReadonlyMap<string, string>): Promise<PromptRow[]> {
  const input = options.get("input");
  if (input !== undefined) return await readPrompts(input);
  const given = options.get("prompt");
  if (given !== undefined) return [{ prompt: given, where: "--prompt" }];
  if (Deno.stdin.isTerminal()) {
    throw new UserError("expected --prompt=TEXT, --input=FILE, or a prompt on standard input", 2);
  }
  const bytes = new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
  let prompt: string;
  try {
    prompt = new TextDecoder("utf-8", { fatal: true }).decode(bytes).trimEnd();
  } catch {
    throw new UserError("standard input: expected text in UTF-8");
  }
  if (prompt === "") throw new UserError("standard input: expected a prompt, found nothing", 2);
  return [{ prompt, where: "standard input" }];
}

/** Answers to one prompt, as text while they are made. */
async function show(models: readonly string[], task: Task): Promise<void> {
  const { jobs, how, log, stop } = task;
  const safe = safeText();
  for (const name of models) {
    await using model = await loadShown(
      name,
      { ...how.gpu, maxLength: how.maxLength, adapter: how.adapter, answers: 1 },
      log,
      stop,
    );
    const count = new AnswerCount();
    for (const job of jobs) {
      if (models.length * jobs.length > 1) {
        const isFirst = name === models[0] && job === jobs[0];
        const number = job.number === undefined ? "" : `, ${job.number} of ${jobs.length}`;
        print(`${isFirst ? "" : "\n"}== ${safe(name)}${number} ==`);
      }
      const answer = ask(model, job, task, stop.signal);
      let isBegun = false;
      try {
        for await (const piece of answer) {
          isBegun = true;
          printText(safe(piece));
        }
        isBegun = true;
      } finally {
        // Where a signal ends it the shell's prompt comes next.
        if (isBegun) print("");
      }
      count.add(answer.end!);
    }
    log.log.info(`${shorten(name)}: ${count}`);
  }
}

/** Answers to many prompts, or into a file: rows, in the order of models and prompts. */
async function write(
  models: readonly string[],
  task: Task,
  batchSize: number,
  output: string | undefined,
  overwrite: boolean,
): Promise<void> {
  const { jobs, how, log, stop } = task;
  const wanted = models.flatMap((model) => jobs.map(({ prompt }) => ({ model, prompt, options: how.given })));
  using file = output === undefined ? undefined : new AnswerFile(output, wanted, overwrite);
  let done = file?.length ?? 0;
  if (done === wanted.length) log.log.info(`${output}: has all ${done} answers: there is nothing to do`);
  else if (done > 0) log.log.info(`${output}: has ${done} of ${wanted.length} answers, and gets the others`);
  const safe = safeText();
  for (const [i, name] of models.entries()) {
    const left = jobs.slice(Math.max(0, done - i * jobs.length));
    if (left.length === 0) continue;
    const answers = Math.min(batchSize, left.length);
    await using model = await loadShown(
      name,
      { ...how.gpu, maxLength: how.maxLength, adapter: how.adapter, answers },
      log,
      stop,
    );
    const count = new AnswerCount();
    const progress = () =>
      log.progress.update({ what: "answering", done: count.answers, total: left.length, unit: "prompts" });
    progress();
    try {
      // Those in hand, and as many that wait for their place.
      for await (const { job, response, end } of inOrder(model, left, task, 2 * answers)) {
        const { finishReason: finish_reason, tokens } = end;
        const row = { model: name, prompt: job.prompt, response, finish_reason, tokens, options: how.given };
        count.add(end);
        if (file) file.add(row);
        else {
          // Its line may be the terminal's that the rows go to.
          log.progress.finish();
          print(safe(JSON.stringify(row)));
        }
        done++;
        if (file) stop.answer({ text: `stopping: the same command goes on after the answers in ${output}` });
        progress();
      }
    } finally {
      log.progress.finish();
    }
    log.log.info(`${shorten(name)}: ${count}`);
  }
}

/** Text that a terminal follows nothing of; elsewhere it is data, and stays as it is. */
function safeText(): (text: string) => string {
  return Deno.stdout.isTerminal() ? printable : (text) => text;
}

function ask(model: Model, { prompt, index }: Job, { how, seed }: Task, signal: AbortSignal) {
  const { sampling, maxNewTokens, stop } = how;
  return model.generate(prompt, { ...sampling, seed: (seed + index) % 2 ** 53, maxNewTokens, stop, signal });
}

interface Answered {
  job: Job;
  response: string;
  end: AnswerEnd;
}

/** Answers in the order of their prompts, `most` at a time; with the first that fails the others end. */
async function* inOrder(
  model: Model,
  jobs: readonly Job[],
  task: Task,
  most: number,
): AsyncGenerator<Answered> {
  const failed = new AbortController();
  const signal = AbortSignal.any([task.stop.signal, failed.signal]);
  const queue: Promise<Answered>[] = [];
  const begin = (job: Job) => {
    const answer = ask(model, job, task, signal);
    const whole = answer.then(
      (response) => ({ job, response, end: answer.end! }),
      (error) => {
        if (error instanceof UserError) error.message = `${job.where}: ${error.message}`;
        throw error;
      },
    );
    // A failure is told when its turn comes.
    whole.catch(() => {});
    queue.push(whole);
  };
  try {
    for (const job of jobs) {
      begin(job);
      if (queue.length >= most) yield await queue.shift()!;
    }
    while (queue.length > 0) yield await queue.shift()!;
  } finally {
    failed.abort();
    await Promise.allSettled(queue);
  }
}
