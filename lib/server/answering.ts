/** The life of a request that a model answers, whole or in events. */
import { boolean, integer } from "../config/values.ts";
import type { GeneratedToken } from "../generation/request.ts";
import { isObject } from "../text/json.ts";
import { type AnswerPart, answerParts, type AnswerRequest, type FinishReason } from "./answer.ts";
import { ApiError } from "./api_error.ts";
import type { ServerContext } from "./context.ts";
import { eventResponse } from "./events.ts";
import type { RequestFields } from "./fields.ts";
import { samplingOf } from "./sampling.ts";
import type { ServedModel } from "./served_model.ts";

/** A whole answer. */
export interface Answer {
  prompt: GeneratedToken[];
  tokens: GeneratedToken[];
  text: string;
  finish: FinishReason;
}

/** What an endpoint makes of what the model says. */
export interface Asked {
  model: ServedModel;
  /** The answers to be made; the index of a choice is its place. */
  requests: readonly AnswerRequest[];
  promptTokens: number;
  /** The object of a response, without its choices. */
  head: Record<string, unknown>;
  /** A choice of the response. */
  choice(index: number, answer: Answer): Promise<object>;
  /** Choices of events: the object of their response, what begins them, and what a part of an answer adds. */
  streamed: {
    head: Record<string, unknown>;
    begin?(index: number): object;
    choice(index: number, part: AnswerPart): Promise<object | undefined>;
  };
}

/** Answers to one request that its model is asked for at a time. */
const AT_A_TIME = 64;
/** Choices of all prompts of a request together. */
const MOST_CHOICES = 2048;
const MOST_N = 128;
/** Some clients ask for more than OpenAI's four: every stop of a task, and the end token. */
const MOST_STOPS = 64;

/**
 * The answers that a request wants: `n` for each prompt.
 * @throws {ApiError} for a field that holds something else, and for a prompt that leaves no room.
 */
export function answerRequests(
  { generator, sampling, eosTokenIds }: ServedModel,
  fields: RequestFields,
  prompts: readonly (readonly number[])[],
  { param, maxTokens, ...how }: Pick<AnswerRequest, "top" | "echo" | "continues"> & {
    /** The field that the prompts come from. */
    param: string;
    maxTokens?: number;
  },
): AnswerRequest[] {
  const n = fields.get("n", integer({ min: 1, max: MOST_N })) ?? 1;
  if (n * prompts.length > MOST_CHOICES) {
    throw new ApiError(
      400,
      `expected at most ${MOST_CHOICES} choices, found ${n} for each of ${prompts.length} prompts`,
    );
  }
  const stops = fields.texts("stop", MOST_STOPS);
  const draws = samplingOf(fields, sampling, n);
  return prompts.flatMap((ids) => {
    checkPrompt(ids, param, generator.positions, maxTokens);
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < generator.vocabSize));
    if (wrong !== undefined) {
      throw ApiError.expected(param, `token ids from 0 to ${generator.vocabSize - 1}`, wrong);
    }
    const maxNewTokens = maxTokens ?? generator.positions - ids.length;
    return draws.map((sampling) => ({ ids, maxNewTokens, sampling, eosTokenIds, stops, ...how }));
  });
}

function checkPrompt(ids: readonly number[], param: string, positions: number, maxTokens?: number): void {
  if (ids.length === 0) throw new ApiError(400, "the prompt is empty: expected one token or more", { param });
  const asked = maxTokens ?? 1;
  if (ids.length + asked <= positions) return;
  const found = maxTokens === undefined
    ? `the prompt has ${ids.length} tokens, which leaves none for an answer`
    : `${ids.length + asked} tokens were asked for: ${ids.length} of the prompt and ${asked} of the answer`;
  throw new ApiError(400, `the context of this model has ${positions} tokens, and ${found}`, {
    param,
    code: "context_length_exceeded",
  });
}

/**
 * Answers a request in its place among others, for as long as it may take and who asked is there.
 * @param ask reads the request: what it throws is the response's status.
 */
export async function answering(
  context: ServerContext,
  request: Request,
  fields: RequestFields,
  ask: () => Promise<Asked>,
): Promise<Response> {
  const release = context.places.take();
  const begin = performance.now();
  const life = new AbortController();
  const { seconds } = context.limits;
  const leave = () => life.abort(new ApiError(499, "who asked is gone"));
  const late = () =>
    life.abort(
      new ApiError(504, `not answered within ${seconds} s, the limit of this server`, { code: "timeout" }),
    );
  const timer = setTimeout(late, 1000 * seconds);
  const end = () => {
    clearTimeout(timer);
    request.signal.removeEventListener("abort", leave);
    release();
    context.metrics.answered((performance.now() - begin) / 1000);
  };
  request.signal.addEventListener("abort", leave);
  if (request.signal.aborted) leave();
  try {
    const streams = fields.get("stream", boolean) ?? false;
    const options = fields.json.stream_options ?? {};
    if (!isObject(options)) throw ApiError.expected("stream_options", "an object", options);
    const includesUsage = options.include_usage === true;
    const asked = await ask();
    life.signal.throwIfAborted();
    const run = new Run(context, asked, life.signal, begin);
    if (streams) {
      // From here on the stream hears of it.
      request.signal.removeEventListener("abort", leave);
      return eventResponse(
        (send) => run.stream(send, includesUsage).finally(end),
        leave,
        (error) => context.apiErrorOf(error),
      );
    }
    const whole = await run.whole();
    end();
    return Response.json(whole);
  } catch (error) {
    end();
    throw error;
  }
}

/** The answers of one request. */
class Run {
  #tokens = 0;

  constructor(
    readonly context: ServerContext,
    readonly asked: Asked,
    readonly signal: AbortSignal,
    readonly begin: number,
  ) {}

  async whole(): Promise<object> {
    const { head, choice } = this.asked;
    const choices: object[] = [];
    await this.#each(async (index, parts) => {
      const answer: Answer = { prompt: [], tokens: [], text: "", finish: "length" };
      for await (const { prompt, token, text, finish } of parts) {
        if (prompt) answer.prompt = prompt;
        if (token) answer.tokens.push(token);
        answer.text += text;
        if (finish) answer.finish = finish;
      }
      choices[index] = await choice(index, answer);
    });
    return { ...head, choices, usage: this.#usage };
  }

  async stream(send: (event: unknown) => void, includesUsage: boolean): Promise<void> {
    const { head, begin, choice } = this.asked.streamed;
    const usage = includesUsage ? { usage: null } : {};
    const tell = (choice: object | undefined) => choice && send({ ...head, choices: [choice], ...usage });
    await this.#each(async (index, parts) => {
      if (begin) tell(begin(index));
      for await (const part of parts) tell(await choice(index, part));
    });
    if (includesUsage) send({ ...head, choices: [], usage: this.#usage });
  }

  /** Works on the parts of each answer; of some at a time. Where one fails, the others end. */
  async #each(work: (index: number, parts: AsyncGenerator<AnswerPart>) => Promise<void>): Promise<void> {
    const { requests, model, promptTokens } = this.asked;
    const failed = new AbortController();
    const signal = AbortSignal.any([this.signal, failed.signal]);
    let next = 0;
    const worker = async () => {
      while (next < requests.length) {
        const index = next++;
        await work(index, this.#counted(answerParts(model, requests[index], signal)));
      }
    };
    try {
      const workers = Array.from({ length: Math.min(AT_A_TIME, requests.length) }, worker);
      await Promise.all(workers).catch(async (error) => {
        failed.abort(error);
        await Promise.allSettled(workers);
        throw error;
      });
    } finally {
      this.context.metrics.tokens(model.name, promptTokens, this.#tokens);
    }
  }

  async *#counted(parts: AsyncGenerator<AnswerPart>): AsyncGenerator<AnswerPart> {
    for await (const part of parts) {
      if (part.token && this.#tokens++ === 0) {
        this.context.metrics.firstToken(this.asked.model.name, (performance.now() - this.begin) / 1000);
      }
      yield part;
    }
  }

  get #usage() {
    const { promptTokens } = this.asked;
    return {
      prompt_tokens: promptTokens,
      completion_tokens: this.#tokens,
      total_tokens: promptTokens + this.#tokens,
    };
  }
}
