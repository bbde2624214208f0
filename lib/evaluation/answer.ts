/** Has models answer benchmarks, into the files that judges read. */
import { findModel } from "../adapters/model.ts";
import { basename, dirname, join, resolve } from "node:path";
import { readDate } from "../text/calendar_date.ts";
import type { TrainConfig } from "../config/schema.ts";
import { chatTemplateOf } from "../data/mistral_template.ts";
import { UserError } from "../errors.ts";
import type { AnswerOptions } from "../generation/answer.ts";
import { AnswerCount } from "../generation/answer_count.ts";
import { loadOntoGpu, type Model } from "../generation/model.ts";
import type { FetchEvents } from "../hub/hub.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { contextOf } from "../weights/context.ts";
import { writeWhole } from "../files/whole_file.ts";
import { modelHash } from "./model_hash.ts";
import {
  type Answered,
  type Answers,
  type Benchmark,
  type Maker,
  type Question,
  readAnswers,
} from "./benchmark.ts";

/** The answer to a conversation. */
export type Chat = (messages: readonly Message[], options: AnswerOptions) => Promise<string>;

/** How benchmarks are answered. */
export interface AnswerModelsOptions extends FetchEvents {
  /** A folder, or the file itself where there is one to be written. */
  output: string;
  /** Whether answers that are there are made anew. */
  overwrite: boolean;
  /** Most tokens of an answer; by default the benchmark's. */
  maxNewTokens?: number;
  /** Of the one model. */
  adapter?: string;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
}

/** A file to be written. */
interface Task {
  benchmark: Benchmark;
  path: string;
  maker: Maker;
  /** Most tokens of an answer. */
  maxNewTokens: number;
  /** What it has. */
  known: Answers;
  todo: Question[];
}

/**
 * Has each model answer each benchmark, `per_device_eval_batch_size` answers at a time, each with its question within
 * `max_length` or the model's own context, if that is shorter. One model at a time is on the GPU; one that has
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
  const revisionOf = (name: string) => name === config.modelNameOrPath ? config.modelRevision : undefined;
  const chatTemplate = chatTemplateOf(config);
  const loads: { name: string; maxLength: number; tasks: Task[] }[] = [];
  // All are looked for before the first is loaded.
  for (const [i, name] of names.entries()) {
    const found = await findModel(name, {
      ...{ log, onProgress, signal, adapter: options.adapter },
      revision: revisionOf(name),
    });
    const maxLength = Math.min(config.maxLength, await contextOf(found.folder));
    const hash = await modelHash(found, chatTemplate, onProgress);
    const tasks: Task[] = [];
    for (const [j, benchmark] of benchmarks.entries()) {
      const { temperature, maxTokens, questions } = benchmark;
      const path = paths[i * benchmarks.length + j];
      const maxNewTokens = options.maxNewTokens ?? maxTokens;
      const maker = {
        model: models[i],
        settings: {
          ...temperature !== undefined && { temperature },
          max_new_tokens: maxNewTokens,
          max_length: maxLength,
          model_sha256: hash,
          seed: config.seed,
        },
      };
      const known = options.overwrite ? new Map() : await readAnswers(path, benchmark, maker);
      if (known.size > 0) {
        const count = `${known.size} of ${questions.length} answers`;
        log?.("info", `${path}: ${count} are there and kept; --overwrite begins anew`);
      }
      const todo = questions.filter(({ key }) => !known.has(key));
      if (todo.length > 0) tasks.push({ benchmark, path, maker, maxNewTokens, known, todo });
    }
    if (tasks.length > 0) loads.push({ name, maxLength, tasks });
  }
  for (const { name, maxLength, tasks } of loads) {
    const answers = Math.min(
      config.perDeviceEvalBatchSize,
      Math.max(...tasks.map(({ todo }) => todo.length)),
    );
    await using model = await loadOntoGpu(name, {
      webgpuEngine: config.webgpuEngine,
      gpuId: config.gpuId,
      maxLength,
      answers,
      pairs: 0,
      adapter: options.adapter,
      revision: revisionOf(name),
      tokenizer: {
        chatTemplate,
        ...(config.chatTemplateDate !== undefined && { date: readDate(config.chatTemplateDate) }),
      },
      readsOnly: options.readsOnly,
      onLog: log,
      ...{ onProgress, signal },
    });
    for (const { benchmark, path, maker, maxNewTokens, known, todo } of tasks) {
      const most = await rooms(model, todo, maxNewTokens, options);
      const made = new AnswerCount();
      await answerAll(chatOf(model, made), benchmark, known, {
        // Those in hand, and as many that wait for their place.
        ...{ seed: config.seed, atATime: 2 * answers, onProgress, signal },
        mostTokens: ({ key }) => most.get(key)!,
        save: (answers) =>
          writeWhole(dirname(path), basename(path), benchmark.write(benchmark.rowsOf(answers, maker)), {
            flush: false,
          }),
      });
      log?.("info", `${path}: ${made}`);
    }
  }
  return paths;
}

/**
 * Most tokens of an answer to each question, so that there is room for as many in each of its turns.
 * @throws {UserError} for the first question without any.
 */
async function rooms(
  model: Pick<Model, "maxLength" | "countTokens">,
  questions: readonly Question[],
  maxNewTokens: number,
  { log }: FetchEvents,
): Promise<ReadonlyMap<string, number>> {
  const { maxLength } = model;
  const found = new Map<string, number>();
  for (const { key, turns, where } of questions) {
    const messages = turns.flatMap((
      content,
    ) => [{ role: "user", content }, { role: "assistant", content: "" }]);
    const count = await at(where, () => model.countTokens(messages.slice(0, -1)));
    const room = Math.floor((maxLength - count) / turns.length);
    if (room < 1) {
      throw new UserError(
        `${where}: ${count} tokens leave no room for an answer within max_length, or the model's context, ${maxLength}`,
      );
    }
    found.set(key, Math.min(room, maxNewTokens));
  }
  const least = Math.min(...found.values());
  const short = [...found.values()].filter((room) => room < maxNewTokens).length;
  if (short > 0) {
    log?.(
      "warning",
      `${short} of ${questions.length} questions ${
        short === 1 ? "has" : "have"
      } no room for answers of ${maxNewTokens} tokens within max_length, or the ` +
        `model's context, ${maxLength}: the least is ${least}`,
    );
  }
  return found;
}

/** A model as benchmarks ask it; `count` hears of what it made. */
const chatOf = (model: Model, count: AnswerCount): Chat => async (messages, options) => {
  const answer = model.generate(messages, options);
  const text = await answer;
  count.add(answer.end!);
  return text;
};

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
 * Asks what is not answered yet, several questions at a time, and saves all answers whenever there are more. An
 * answer's seed comes from its question's place, so that it is the same one whatever was answered before.
 *
 * @throws the first error; the signal's reason.
 */
export async function answerAll(
  chat: Chat,
  { questions, sampling }: Pick<Benchmark, "questions" | "sampling">,
  known: Answers,
  { seed, atATime, mostTokens, save, onProgress, signal }: {
    seed: number;
    atATime: number;
    /** Of an answer. */
    mostTokens: (question: Question) => number;
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
      const turns = await answer(question, (messages, turn) => {
        signal?.throwIfAborted();
        const own = { temperature: question.temperature, seed: seed + place + turn * questions.length };
        return chat(messages, { ...sampling, ...own, maxNewTokens: mostTokens(question), signal });
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
  say: (messages: readonly Message[], turn: number) => Promise<string>,
): Promise<Answered["turns"]> {
  const messages: Message[] = [];
  const answers: string[] = [];
  for (const [turn, content] of turns.entries()) {
    messages.push({ role: "user", content });
    answers.push(
      await at(turns.length > 1 ? `${where}, turn ${turn + 1}` : where, () => say([...messages], turn)),
    );
    messages.push({ role: "assistant", content: answers[turn] });
  }
  return answers;
}

/** What is wrong is told with its place. */
async function at<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${where}: ${error.message}`, error.status, error.code);
  }
}
