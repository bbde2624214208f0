/** Has models answer benchmarks, into the files that judges read. */
import { basename, dirname, join, resolve } from "node:path";
import { readDate } from "../calendar_date.ts";
import type { TrainConfig } from "../config/schema.ts";
import { chatTemplateOf } from "../data/mistral_template.ts";
import { UserError } from "../errors.ts";
import { loadOntoGpu, type Model } from "../generation/model.ts";
import type { FetchEvents } from "../hub/hub.ts";
import type { OnProgress } from "../progress.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { writeWhole } from "../whole_file.ts";
import { type Answered, type Answers, type Benchmark, type Question, readAnswers } from "./benchmark.ts";

/** The answer to a conversation: 0 is the temperature of the most likely one; the same seed draws the same. */
export type Chat = (
  messages: readonly Message[],
  options: { temperature: number; maxNewTokens: number; seed: number; signal?: AbortSignal },
) => Promise<string>;

/** How benchmarks are answered. */
export interface AnswerModelsOptions extends FetchEvents {
  /** A folder, or the file itself where there is one to be written. */
  output: string;
  /** Whether answers that are there are made anew. */
  overwrite: boolean;
  /** Most tokens of an answer; by default the benchmark's. */
  maxNewTokens?: number;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
}

/** A file to be written. */
interface Task {
  model: string;
  benchmark: Benchmark;
  path: string;
  /** What it has. */
  answers: Answers;
}

/**
 * Has each model answer each benchmark, `per_device_eval_batch_size` questions at a time. One model at a time is on the GPU; one that has
 * answered all is not loaded. Files are written as answers come, and answers that they have are kept.
 *
 * @returns the files' paths.
 * @throws {UserError} as `loadModel`; for a file of something else; for a question that leaves no room for an answer.
 */
export async function answerBenchmarks(
  names: readonly string[],
  benchmarks: readonly Benchmark[],
  config: TrainConfig,
  options: AnswerModelsOptions,
): Promise<string[]> {
  const { log, onProgress, signal } = options;
  const models = names.map(modelOf);
  const paths = pathsOf(models, benchmarks, options.output);
  const tasks: Task[] = [];
  for (const [i, model] of models.entries()) {
    for (const [j, benchmark] of benchmarks.entries()) {
      const path = paths[i * benchmarks.length + j];
      const answers = options.overwrite ? new Map() : await readAnswers(path, benchmark, model);
      const { length } = benchmark.questions;
      if (answers.size > 0) {
        log?.(
          "info",
          `${path}: ${answers.size} of ${length} answers are there and kept; --overwrite begins anew`,
        );
      }
      if (answers.size < length) tasks.push({ model: names[i], benchmark, path, answers });
    }
  }
  for (const name of new Set(tasks.map(({ model }) => model))) {
    await using model = await loadOntoGpu(name, {
      maxLength: config.maxLength,
      revision: name === config.modelNameOrPath ? config.modelRevision : undefined,
      tokenizer: {
        chatTemplate: chatTemplateOf(config),
        ...(config.chatTemplateDate !== undefined && { date: readDate(config.chatTemplateDate) }),
      },
      readsOnly: options.readsOnly,
      onLog: log,
      ...{ onProgress, signal },
    });
    for (const { benchmark, path, answers } of tasks.filter(({ model }) => model === name)) {
      await answerAll(chatOf(model), benchmark, answers, {
        ...{ seed: config.seed, atATime: config.perDeviceEvalBatchSize, onProgress, signal },
        maxNewTokens: options.maxNewTokens,
        save: (answers) =>
          writeWhole(dirname(path), basename(path), benchmark.write(answers, modelOf(name)), {
            flush: false,
          }),
      });
    }
  }
  return paths;
}

/** A model that is loaded, as benchmarks ask it. */
const chatOf = (model: Model): Chat => async (messages, options) => await model.generate(messages, options);

/** The name under which a judge knows a model: the last part of its own, as FastChat has it. */
const modelOf = (name: string) => basename(resolve(name));

function pathsOf(models: readonly string[], benchmarks: readonly Benchmark[], output: string): string[] {
  const twice = models.find((model, i) => models.indexOf(model) < i);
  if (twice !== undefined) {
    throw new UserError(`two models have the name ${twice}: measure them apart, each with an --output`, 2);
  }
  const isFile = /\.jsonl?$/.exec(output);
  if (!isFile) return models.flatMap((model) => benchmarks.map(({ fileOf }) => join(output, fileOf(model))));
  const [{ extension }, ...others] = benchmarks;
  if (models.length > 1 || others.length > 0) {
    throw new UserError(`--output: expected a folder, since there are several files, found ${output}`, 2);
  }
  if (isFile[0] === extension) return [output];
  throw new UserError(`--output: expected a folder or a name that ends in ${extension}, found ${output}`, 2);
}

/**
 * Asks what is not answered yet, several questions at a time, and saves all answers whenever there are more. An answer's seed comes from its question's place, so that it is the same one whatever was answered before.
 *
 * @throws the first error; the signal's reason.
 */
export async function answerAll(
  chat: Chat,
  { questions, maxTokens, isTrimmed }: Pick<Benchmark, "questions" | "maxTokens" | "isTrimmed">,
  known: Answers,
  { seed, atATime, maxNewTokens = maxTokens, save, onProgress, signal }: {
    seed: number;
    atATime: number;
    maxNewTokens?: number;
    save: (answers: Answers) => Promise<void>;
    onProgress?: OnProgress;
    signal?: AbortSignal;
  },
): Promise<Answers> {
  const answers = new Map(known);
  const todo = [...questions.entries()].filter(([, { key }]) => !known.has(key));
  const report = () =>
    onProgress?.({
      what: "answering",
      done: answers.size - known.size,
      total: todo.length,
      unit: "questions",
    });
  report();
  // One write at a time; answers that come meanwhile are in the next one.
  let saved = known.size;
  let saving = Promise.resolve();
  const saveMore = () =>
    saving = saving.then(async () => {
      if (saved === answers.size) return;
      saved = answers.size;
      await save(answers);
    });
  const next = todo.values();
  const failures: unknown[] = [];
  const work = async () => {
    for (const [place, question] of next) {
      if (failures.length > 0) return;
      const turns = await answer(question, isTrimmed, (messages, turn) => {
        signal?.throwIfAborted();
        const own = seed + place + turn * questions.length;
        return chat(messages, { temperature: question.temperature, maxNewTokens, seed: own, signal });
      });
      answers.set(question.key, { turns, id: crypto.randomUUID(), time: Date.now() / 1000 });
      report();
      await saveMore();
    }
  };
  // What is in hand when one fails is answered and saved.
  const workers = Array.from(
    { length: Math.min(atATime, todo.length) },
    () => work().catch((e) => failures.push(e)),
  );
  await Promise.all(workers);
  if (failures.length > 0) throw failures[0];
  return answers;
}

/** Answers to all turns of a question, each said after those before it. */
async function answer(
  { turns, where }: Question,
  isTrimmed: boolean,
  say: (messages: readonly Message[], turn: number) => Promise<string>,
): Promise<Answered["turns"]> {
  const messages: Message[] = [];
  const answers: string[] = [];
  for (const [turn, content] of turns.entries()) {
    messages.push({ role: "user", content });
    try {
      const text = await say([...messages], turn);
      answers.push(isTrimmed ? text.trim() : text);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      const place = turns.length > 1 ? `, turn ${turn + 1}` : "";
      throw new UserError(`${where}${place}: ${error.message}`, error.status, error.code);
    }
    messages.push({ role: "assistant", content: answers[turn] });
  }
  return answers;
}
