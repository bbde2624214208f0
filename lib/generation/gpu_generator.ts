/** Answers many requests at a time, on the GPU. */
import type { AttentionTiles } from "../../kernels/attention.ts";
import { UserError } from "../errors.ts";
import { MOST_TOP } from "../gpu/choice_operations.ts";
import type { Gpu } from "../gpu/device.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import type { KernelCall, Pipelines } from "../gpu/program.ts";
import { attentionTiles, type DeviceClass, type ProductTiles, rowTiles, usualTiles } from "../gpu/tuning.ts";
import type { Net } from "../graph/net.ts";
import { tableLength } from "../graph/rope_table.ts";
import type { Parameters } from "../parameters/parameters.ts";
import { AnswerMemory } from "./answer_memory.ts";
import { CacheRows, rowsFor } from "./cache_rows.ts";
import { Channel } from "./channel.ts";
import { LABEL_GROUP, Pass, type PassPlan } from "./pass.ts";
import type { GeneratedToken, GenerationRequest, Generator } from "./request.ts";
import { type Answer, isAtPrompt, isPenalised, labelOf, promptRound } from "./rounds.ts";

/** How large a generator is, and how its kernels are chosen. */
export interface GeneratorOptions {
  /** Most tokens of a prompt and its answer. */
  positions: number;
  /** Most answers at a time: 1. */
  answers?: number;
  /**
   * Tokens of all prompts and answers at a time, as rows of each cache; by default as many as `answers` of the
   * longest have.
   */
  cacheTokens?: number;
  /** Bytes of the largest buffer that the adapter can bind. */
  largestBuffer: number;
  /**
   * What its kernels are made for.
   *
   * @internal
   */
  device: DeviceClass;
  /**
   * How the products of prompts are computed; by default as suits the device.
   *
   * @internal
   */
  tiles?: ProductTiles;
  /**
   * How the attention of prompts is computed; by default likewise.
   *
   * @internal
   */
  attention?: AttentionTiles;
  /** Whether all matrices are bfloat16 numbers, however they are stored. */
  isBfloat16?: boolean;
  /** Runs a pass and its read when nothing else is at work over the same plan; by default at once. */
  inTurn?: (work: () => Promise<void>) => Promise<void>;
}

/**
 * Tokens of one pass over prompts: longer ones take several. The same for all, since tiles, and so bits, follow from
 * it.
 */
const PROMPT_TOKENS = 512;
/** Logits divided by less may be no numbers any more; vLLM takes the likeliest token then, too. */
const LEAST_TEMPERATURE = 1e-5;
/**
 * Milliseconds of steps to one read, which costs 10, and on a processor as much again for the text of what it shows.
 */
const BETWEEN_READS = 300;
/** Steps to one read at most: those behind the end are made in vain. */
const MOST_AHEAD = 32;

type Waiting = Pick<Answer, "request" | "out">;

/**
 * Passes over prompts, as many at a time as fit, and steps of all answers in hand, a token of each: both read and
 * leave keys and values in caches. A step chooses on the GPU, where the next one begins with what it chose, so that
 * many run before the host reads. A prompt that begins as an earlier one did takes over what is still there of it.
 *
 * Whatever is answered beside it, the same request gives the same bits: rows of a pass do not depend on each other,
 * and each request's begin where tiles begin.
 */
export class GpuGenerator implements Generator {
  readonly positions: number;
  /** As the model's. */
  readonly vocabSize: number;
  readonly #answers: number;
  readonly #inTurn: (work: () => Promise<void>) => Promise<void>;
  readonly #cache: CacheRows;
  readonly #memory: AnswerMemory;
  readonly #prompt: Pass;
  readonly #step: Pass;
  #gpu?: Gpu;
  #waiting: Waiting[] = [];
  #running: Answer[] = [];
  #isAtWork = false;
  /** Whether steps have the weights as they are. */
  #isHeld = false;
  /** Steps to the next read. */
  #ahead = 1;

  /**
   * A generator over weights that are there, with a plan of its own.
   *
   * @throws {UserError} where the GPU has not enough memory.
   */
  static async open(
    gpu: Gpu,
    pipelines: Pipelines,
    net: Net,
    parameters: Parameters,
    options: GeneratorOptions,
  ): Promise<GpuGenerator> {
    const plan = new MemoryPlan();
    const generator = new GpuGenerator(net, parameters, options, plan);
    plan.share(generator.calls, options.largestBuffer);
    await plan.allocate(gpu);
    await generator.compile(gpu, pipelines);
    return generator;
  }

  /** Plans its tensors in `plan`, whose `share` is then to be called with its `calls` among others, and `allocate`. */
  constructor(
    /** @internal */
    readonly net: Net,
    parameters: Parameters,
    options: GeneratorOptions,
    readonly plan: MemoryPlan,
  ) {
    const { positions, answers = 1, device, tiles = usualTiles(device), isBfloat16 } = options;
    const { attention = attentionTiles(device), cacheTokens = answers * rowsFor(positions) } = options;
    this.positions = positions;
    this.vocabSize = net.vocabSize;
    this.#answers = answers;
    this.#inTurn = options.inTurn ?? ((work) => work());
    this.#cache = new CacheRows(rowsFor(cacheTokens));
    const results = Math.max(MOST_AHEAD * answers, PROMPT_TOKENS);
    const sizes = { rows: this.#cache.length, answers, vocabulary: net.vocabSize, results };
    this.#memory = new AnswerMemory(plan, sizes, device === "gpu" ? 256 : 64);
    const passes: PassPlan = {
      ...{ net, plan, parameters, positions },
      cacheRows: this.#cache.length,
      generation: this.#memory.tensors,
    };
    this.#prompt = new Pass(passes, PROMPT_TOKENS, PROMPT_TOKENS, { tiles, attention });
    this.#step = new Pass(passes, answers, Math.ceil(answers / LABEL_GROUP) * LABEL_GROUP, {
      tiles: rowTiles(device, answers, { fuses: tiles.fuses, storage: isBfloat16 ? "bf16" : "f32" }),
      attention: stepAttention(attention),
    });
  }

  /**
   * Its kernels, for the plan's `share`.
   *
   * @internal
   */
  get calls(): KernelCall[] {
    return [...this.#prompt.calls, ...this.#step.calls];
  }

  get load(): Generator["load"] {
    return {
      running: this.#running.length,
      waiting: this.#waiting.length,
      keptTokens: this.#cache.busy,
      mostTokens: this.#cache.length,
    };
  }

  /** Compiles the kernels, over a plan that is allocated. */
  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    this.#gpu = gpu;
    this.#memory.upload(gpu);
    await this.#prompt.compile(gpu, pipelines);
    await this.#step.compile(gpu, pipelines);
    gpu.check();
  }

  /** Forgets what there is of earlier prompts and weights: to be called when weights have changed. */
  forget(): void {
    if (this.#isAtWork) throw new RangeError("answers are being made");
    this.#cache.clear();
    this.#isHeld = false;
  }

  async *tokens(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken> {
    const { ids, maxNewTokens } = request;
    const most = ids.length + maxNewTokens;
    if (ids.length === 0 || maxNewTokens < 0 || most > this.positions || rowsFor(most) > this.#cache.length) {
      throw new RangeError(
        `${ids.length} tokens and ${maxNewTokens} more: expected 1 or more, together at most ${this.positions}`,
      );
    }
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= this.vocabSize);
    if (wrong !== undefined) throw new RangeError(`token ${wrong}: expected 0 to ${this.vocabSize - 1}`);
    if (!(Number.isInteger(request.top) && request.top >= 0 && request.top <= MOST_TOP)) {
      throw new RangeError(`top ${request.top}: expected 0 to ${MOST_TOP}`);
    }
    if (maxNewTokens === 0 && !request.echo) return;
    const out = new Channel<GeneratedToken>(signal);
    const { sampling } = request;
    const temperature = sampling.temperature < LEAST_TEMPERATURE ? 0 : sampling.temperature;
    this.#waiting.push({ request: { ...request, sampling: { ...sampling, temperature } }, out });
    void this.#work();
    yield* out.values();
  }

  /** Works until nothing is left. */
  async #work(): Promise<void> {
    if (this.#isAtWork) return;
    this.#isAtWork = true;
    try {
      if (!this.#isHeld) this.#step.hold(this.#gpu!);
      this.#isHeld = true;
      for (;;) {
        // Others may ask now, or leave.
        await new Promise((resolve) => setTimeout(resolve));
        this.#drop();
        this.#admit();
        if (this.#running.length === 0) break;
        for (const answer of this.#running) this.#turn(answer);
        const work = this.#running.some(isAtPrompt) ? () => this.#readPrompts() : () => this.#makeSteps();
        await this.#inTurn(work);
      }
    } catch (error) {
      for (const { out } of [...this.#running, ...this.#waiting]) out.fail(error);
      for (const { rows } of this.#running) this.#cache.release(rows);
      [this.#running, this.#waiting] = [[], []];
      this.#cache.clear();
    } finally {
      this.#isAtWork = false;
    }
  }

  /** Lets go of what nobody waits for any more. */
  #drop(): void {
    this.#waiting = this.#waiting.filter(({ out }) => !out.isLeft);
    for (const answer of this.#running.filter(({ out }) => out.isLeft)) this.#end(answer);
  }

  #end(answer: Answer): void {
    this.#cache.release(answer.rows);
    this.#running = this.#running.filter((other) => other !== answer);
    answer.out.end();
  }

  /** Takes on what there is room for, in the order in which it came. */
  #admit(): void {
    while (this.#waiting.length > 0 && this.#running.length < this.#answers) {
      const [{ request, out }] = this.#waiting;
      const { ids, sampling, maxNewTokens, echo } = request;
      const tables = this.#tables(ids.length);
      // What is asked of the prompt's tokens is in no cache.
      const shared = echo ? undefined : this.#cache.sharing(ids, tables);
      const rows = this.#cache.take(ids.length + maxNewTokens, tables);
      if (!rows) return;
      this.#waiting.shift();
      const done = shared?.count ?? 0;
      if (shared) this.#memory.copy(this.#gpu!, shared.rows.first, rows.first, done);
      rows.tokens = ids.slice(0, done);
      const taken = new Set(this.#running.map(({ seen }) => seen));
      const seen = Array.from({ length: this.#answers }, (_, i) => i).find((i) => !taken.has(i))!;
      if (isPenalised(sampling)) this.#memory.markPrompt(this.#gpu!, seen, ids);
      this.#running.push({ request, out, ids: [...ids], done, rows, seen });
    }
  }

  /**
   * Where a row has become so long that all of it is rotated otherwise, it is read again, as transformers does with
   * Phi-3.
   */
  #turn(answer: Answer): void {
    const { ids, rows } = answer;
    const tables = this.#tables(ids.length);
    if (tables === rows.tables || !this.net.ropes.some(({ type }) => type === "longrope")) return;
    Object.assign(rows, { tables, tokens: [] });
    answer.done = 0;
  }

  /** A pass over what is left of prompts, as much as fits, each from a tile's first row on. */
  async #readPrompts(): Promise<void> {
    const pass = this.#prompt;
    const { ids, places, labels, parts } = promptRound(this.#running, pass.tokens);
    const gpu = this.#gpu!;
    pass.writeTables(gpu, Math.max(...parts.map(({ answer }) => answer.ids.length)));
    pass.count(gpu, ids.length, labels.length);
    pass.writeIds(gpu, ids);
    pass.run(gpu, places, labels);
    // Where there is no label, the wait alone keeps passes from piling up.
    const results = await this.#memory.read(gpu, Math.max(1, labels.length));
    for (const { answer, count, labels } of parts) {
      answer.done += count;
      answer.rows.tokens = answer.ids.slice(0, answer.done);
      for (const { result, target } of labels) {
        if (this.#running.includes(answer)) this.#tell(answer, results[result], target !== undefined);
      }
      if (answer.done === answer.request.ids.length && answer.request.maxNewTokens === 0) this.#end(answer);
    }
    this.#ahead = 1;
  }

  /** Steps of all answers that have the same rotary tables, a token of each a step. */
  async #makeSteps(): Promise<void> {
    const gpu = this.#gpu!;
    const begin = performance.now();
    const tablesOf = ({ ids }: Answer, more = 0) => this.#tables(ids.length + more);
    const tables = tablesOf(this.#running[0]);
    const answers = this.#running.filter((answer) => tablesOf(answer) === tables);
    const left = ({ request, ids }: Answer) => request.ids.length + request.maxNewTokens - ids.length;
    const most = Math.min(this.#ahead, ...answers.map(left));
    let steps = 1;
    while (steps < most && answers.every((answer) => tablesOf(answer, steps) === tables)) steps++;
    this.#step.writeTables(gpu, Math.max(...answers.map(({ ids }) => ids.length)));
    this.#step.count(gpu, answers.length, answers.length);
    this.#step.writeIds(gpu, answers.map(({ ids }) => ids.at(-1)!));
    for (let step = 0; step < steps; step++) {
      const places = answers.map(({ ids, rows: { first } }) => ({ position: ids.length - 1 + step, first }));
      const labels = answers.map((answer, row) =>
        labelOf(answer, { row, result: step * answers.length + row, place: step })
      );
      this.#step.run(gpu, places, labels);
    }
    const results = await this.#memory.read(gpu, steps * answers.length);
    for (const [i, result] of results.entries()) {
      const answer = answers[i % answers.length];
      // Those behind the end were made in vain.
      if (!this.#running.includes(answer)) continue;
      answer.done++;
      this.#tell(answer, result, false);
    }
    const others = this.#running.filter((answer) => !answers.includes(answer));
    this.#running = [...others, ...this.#running.filter((answer) => answers.includes(answer))];
    const fitting = Math.floor(BETWEEN_READS * steps / (performance.now() - begin));
    this.#ahead = Math.max(1, Math.min(fitting, 2 * this.#ahead, MOST_AHEAD));
  }

  /** Hands on a token, one of the prompt or one that follows. */
  #tell(answer: Answer, words: Uint32Array, isOfPrompt: boolean): void {
    const { request, ids, out } = answer;
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    const [id] = words;
    if (id >= this.vocabSize || !Number.isFinite(floats[1])) {
      out.fail(new UserError("the model gives logits that are no finite numbers: its weights are damaged"));
      return this.#end(answer);
    }
    const top = Array.from({ length: request.top }, (_, i) => ({
      id: words[2 + 2 * i],
      logProbability: floats[3 + 2 * i],
    }));
    out.push({ id, logProbability: floats[1], top });
    if (isOfPrompt) return;
    ids.push(id);
    const isFull = ids.length === request.ids.length + request.maxNewTokens;
    if (isFull || request.eosTokenIds.includes(id)) this.#end(answer);
  }

  /** Which rotary tables a sequence of so many tokens has. */
  #tables(longest: number): string {
    return this.net.ropes.map((spec) => tableLength(spec, longest)).join(" ");
  }
}

/** The queries of a step see keys of different answers: none shares a tile with another. */
function stepAttention(tiles: AttentionTiles): AttentionTiles {
  const forward = tiles.forward.memory === "matrix" ? tiles.forward.otherwise : tiles.forward;
  return {
    ...tiles,
    forward: forward.memory === "workgroup" ? { memory: "workgroup", queries: 1 } : { ...forward, tokens: 1 },
  };
}
