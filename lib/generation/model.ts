/** A model that is there to answer and to be measured, not to be trained. */
import { pack } from "../batch/pack.ts";
import { parameterCount } from "../parameters/parameter.ts";
import { Decoder } from "../graph/decoder.ts";
import { type PoolOptions, TokenizerPool } from "../data/pool.ts";
import { memoryRows, type Rows } from "../data/memory.ts";
import type { Pair, Sequence } from "../data/pair.ts";
import type { PairRules } from "../data/pair_of.ts";
import { shaped } from "../data/pairs.ts";
import type { Row } from "../data/row.ts";
import { MOST_TOKENS } from "../config/counts.ts";
import { inArea, UserError } from "../errors.ts";
import { show } from "../json.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { deviceClass } from "../gpu/tuning.ts";
import { Pipelines } from "../gpu/program.ts";
import { resolveModel } from "../hub/hub.ts";
import { losses } from "../losses/losses.ts";
import { netOf } from "../models/models.ts";
import type { Progress } from "../progress.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { storageOf } from "../weights/storage.ts";
import { openModel } from "../weights/weights.ts";
import { adapterOf, logitsBudget } from "../planning/plan.ts";
import { rememberedTiles } from "../planning/tune.ts";
import { evaluate } from "../training/evaluate.ts";
import { type Metrics, summarize } from "../training/metrics.ts";
import { GpuGenerator } from "./gpu_generator.ts";
import { type Answer, type AnswerOptions, answerTo } from "./answer.ts";
import { readGenerationConfig } from "./generation_config.ts";
import { Generation } from "./pieces.ts";
import type { GenerationConfig } from "./sampling.ts";
import { Turns } from "./turns.ts";

/** How a model is loaded; every field may be left out. */
export interface LoadOptions {
  /** Most tokens of a prompt and its answer, or of a prompt and a response: 1,024. */
  maxLength?: number;
  /** Most answers that are made at a time, each with room for `maxLength`; others wait: 1. */
  answers?: number;
  /** Any object with the WebGPU API; the runtime's own by default. */
  gpu?: GPU;
  /** As `train`'s. */
  readsOnly?: boolean;
  /** Notes and warnings for people. */
  onLog?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far fetching, loading and compiling are. */
  onProgress?: (progress: Progress) => void;
  /** Ends the loading. */
  signal?: AbortSignal;
}

/**
 * What a model says of a row's responses: natural logarithms, as `torch.log_softmax` gives them for the tokens after
 * the prompt.
 */
export interface RowLogProbabilities {
  /** Of the better answer. */
  chosen: {
    /** Of all its tokens together. */
    sum: number;
    /** Of each. */
    logProbabilities: number[];
    /** The tokens, the end token with them; one that nothing stands before has no probability, and is left out. */
    ids: number[];
    /** What each of them says. */
    tokens: string[];
  };
  /** Of the other one; absent where the row has none. */
  rejected?: RowLogProbabilities["chosen"];
  /** What was cut to fit `maxLength`: the prompt, or the responses too. */
  truncated: false | "prompt" | "response";
}

/**
 * A model on the GPU. Disposing of it gives that back, once the calls in hand are done; calls may overlap, and wait for
 * each other.
 */
export interface Model extends AsyncDisposable {
  /** The folder that it was loaded from. */
  readonly folder: string;
  /** Most tokens of a prompt and its answer. */
  readonly maxLength: number;
  /**
   * An answer, token by token, to a user's message or to a conversation, which goes through the chat template.
   *
   * @throws {UserError} for a prompt that leaves no room within `maxLength`, and for options that are none.
   */
  generate(prompt: string | readonly Message[], options?: AnswerOptions): Answer;
  /**
   * How many tokens a prompt has, as `generate` takes it.
   *
   * @throws {UserError} for messages that the model's chat template refuses.
   */
  countTokens(prompt: string | readonly Message[]): Promise<number>;
  /**
   * What the model says of each row's responses, token by token. A row without `rejected` is one of its prompt and
   * `chosen`.
   *
   * @throws {UserError} for the first row that cannot be used; rows count from 0.
   */
  logProbabilities(rows: Rows): Promise<RowLogProbabilities[]>;
  /**
   * Means over the pairs under SimPER's loss: its value, rewards, and how often the chosen answer is the likelier. Of a
   * pair longer than `maxLength`, the prompt is cut to half of that.
   *
   * @throws {UserError} for the first row that cannot be used; rows count from 0.
   */
  evaluate(rows: Rows): Promise<Metrics>;
}

/**
 * Loads a model's folder, or what the Hub has under `owner/name`, onto the GPU, without gradients.
 *
 * @throws {UserError} where it cannot be had, is not supported, or the GPU has not enough memory.
 *
 * @example
 * ```ts
 * import { loadModel } from "./model.ts";
 * import assert from "node:assert/strict";
 *
 * await using model = await loadModel("configs/tiny/model", { maxLength: 64 });
 * const pieces: string[] = [];
 * for await (const piece of model.generate("What is the capital of Italy?", { maxNewTokens: 8 })) pieces.push(piece);
 * assert.equal(pieces.join(""), await model.generate("What is the capital of Italy?", { maxNewTokens: 8 }));
 *
 * const [row] = await model.logProbabilities([{ prompt: "What is the capital of Italy?", chosen: " Rome." }]);
 * assert.equal(row.chosen.ids.length, row.chosen.logProbabilities.length);
 * ```
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<Model> {
  if (typeof name !== "string") {
    throw new UserError(`loadModel: expected a folder or owner/name, found ${show(name)}`, 2, "NOT_FOUND");
  }
  return await loadOntoGpu(name, options);
}

/** As `loadModel`, with what only the program asks for. */
export interface GpuOptions extends LoadOptions {
  /** Branch, tag or commit on the Hub. */
  revision?: string;
  /** Most pairs of one pass: 1. */
  pairs?: number;
  /** Of the tokenizer, besides `readsOnly`. */
  tokenizer?: Pick<PoolOptions, "chatTemplate" | "date">;
}

/** As `loadModel`; its parts can be had. */
export async function loadOntoGpu(name: string, options: GpuOptions): Promise<GpuModel> {
  const { maxLength = 1024, answers = 1, pairs = 1, revision } = options;
  const { onLog: log = () => {}, onProgress, signal } = options;
  if (!Number.isInteger(maxLength) || maxLength < 2 || maxLength > MOST_TOKENS) {
    throw new UserError(
      `maxLength: expected a whole number from 2 to ${MOST_TOKENS}, found ${show(maxLength)}`,
      2,
    );
  }
  if (!Number.isInteger(answers) || answers < 1) {
    throw new UserError(`answers: expected a whole number from 1, found ${show(answers)}`, 2);
  }
  await using held = new AsyncDisposableStack();
  const folder = await inArea("NOT_FOUND", () => resolveModel(name, { log, onProgress, signal, revision }));
  const warn = (message: string) => log("warning", message);
  await using opened = new AsyncDisposableStack();
  const weights = opened.adopt(
    await inArea("MODEL_INVALID", () => openModel(folder, warn)),
    (weights) => weights.close(),
  );
  const generationConfig = await readGenerationConfig(folder);
  const pool = await inArea(
    "MODEL_INVALID",
    () => TokenizerPool.open(folder, { ...options.tokenizer, readsOnly: options.readsOnly }),
  );
  held.defer(() => pool.close());
  const gpu = held.adopt(await openGpu(options.gpu), (gpu) => gpu.destroy());
  const adapter = { ...adapterOf(gpu), tiles: await rememberedTiles(gpu) };
  const net = netOf(weights.model);
  const stored = storageOf(weights, net.parameters);
  const decoder = new Decoder(net, {
    // The two responses of a pair that share nothing.
    tokens: 2 * pairs * maxLength,
    labels: 2 * pairs * maxLength,
    pairs,
    positions: maxLength,
    logitsBytes: logitsBudget(4 * parameterCount(net.parameters), adapter.largestBuffer),
    checkpointing: false,
  }, {
    ...adapter,
    loss: losses.simper.wgsl,
    eosTokenId: pool.vocabulary.eosTokenId,
    training: false,
    // Reading and turning them into float32 is free on a GPU, and costs time on the processor.
    weights: gpu.isSoftware ? "f32" : stored,
  });
  held.defer(() => decoder.destroy());
  const turns = new Turns();
  const generator = new GpuGenerator(
    net,
    decoder.parameters,
    {
      ...adapter,
      positions: maxLength,
      answers,
      device: deviceClass(gpu),
      isBfloat16: stored === "bf16",
      inTurn: (work) => turns.run(work),
    },
    decoder.plan,
  );
  const calls = [...decoder.forward, ...generator.calls];
  decoder.share(calls);
  const pipelines = new Pipelines(gpu, signal, onProgress);
  pipelines.expect(calls);
  await decoder.allocate(gpu, pipelines);
  await generator.compile(gpu, pipelines);
  await decoder.load(gpu, weights, onProgress);
  return new GpuModel(
    folder,
    maxLength,
    weights.model.vocabSize,
    { pool, gpu, decoder, generator, generationConfig, turns },
    held.move(),
  );
}

interface Parts {
  pool: TokenizerPool;
  gpu: Gpu;
  decoder: Decoder;
  /** Over the same weights and plan. */
  generator: GpuGenerator;
  generationConfig: GenerationConfig;
  /** Of both: what each leaves is read before the other works. */
  turns: Turns;
}

export class GpuModel implements Model {
  /** What is answered whole, though the model is disposed of meanwhile. */
  readonly #calls = new Set<Promise<unknown>>();
  #isDisposed = false;

  constructor(
    readonly folder: string,
    readonly maxLength: number,
    readonly vocabSize: number,
    readonly parts: Parts,
    readonly held: AsyncDisposableStack,
  ) {}

  generate(prompt: string | readonly Message[], options: AnswerOptions = {}): Generation {
    const { vocabSize, parts } = this;
    return new Generation(() => {
      this.#checkOpen();
      return answerTo(prompt, options, { ...parts, vocabSize });
    });
  }

  countTokens(prompt: string | readonly Message[]): Promise<number> {
    return this.#inHand(async () =>
      (await inArea("DATA_INVALID", () => this.parts.pool.promptIds(prompt))).length
    );
  }

  logProbabilities(rows: Rows): Promise<RowLogProbabilities[]> {
    return this.#inHand(() => this.#logProbabilities(rows));
  }

  async #logProbabilities(rows: Rows): Promise<RowLogProbabilities[]> {
    const { pool, gpu, decoder } = this.parts;
    const found: RowLogProbabilities[] = [];
    for await (const row of (await memoryRows(rows, "logProbabilities")).read()) {
      const hasRejected = (row.row.rejected ?? undefined) !== undefined;
      const [pair] = await this.#pairs(oneRow(row), hasRejected);
      const batch = pack([pair], decoder.net.windows);
      const all = await this.parts.turns.run(() => decoder.logProbabilities(gpu, batch));
      const [from, to, rejectedFrom, rejectedTo] = batch.labelsOfPair;
      const responseOf = async (sequence: Sequence, logProbabilities: number[]) => {
        const ids = sequence.ids.slice(-logProbabilities.length);
        const tokens = await pool.texts(ids.map((id) => [id]), row.where);
        return {
          sum: logProbabilities.reduce((sum, value) => sum + value, 0),
          logProbabilities,
          ids,
          tokens,
        };
      };
      found.push({
        chosen: await responseOf(pair.chosen, [...all.subarray(from, to)]),
        ...pair.rejected &&
          { rejected: await responseOf(pair.rejected, [...all.subarray(rejectedFrom, rejectedTo)]) },
        truncated: pair.truncated,
      });
    }
    return found;
  }

  evaluate(rows: Rows): Promise<Metrics> {
    return this.#inHand(() => this.#evaluate(rows));
  }

  async #evaluate(rows: Rows): Promise<Metrics> {
    const { gpu, decoder } = this.parts;
    const pairs = await this.#pairs((await memoryRows(rows, "evaluate")).read(), true);
    if (pairs.length === 0) throw new UserError("evaluate: expected rows, found none", 1, "DATA_INVALID");
    const store = {
      length: pairs.length,
      read: (indices: readonly number[]) => Promise.resolve(indices.map((index) => pairs[index])),
    };
    return summarize((await this.parts.turns.run(() => evaluate(gpu, decoder, store, 1)))!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await Promise.allSettled(this.#calls);
    await this.parts.turns.close(() => this.#closed());
    await this.held.disposeAsync();
  }

  /** Does what is disposed of only when it is done. */
  async #inHand<T>(work: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    const call = work();
    this.#calls.add(call);
    try {
      return await call;
    } finally {
      this.#calls.delete(call);
    }
  }

  async #pairs(rows: AsyncIterable<Row>, usesRejected: boolean): Promise<Pair[]> {
    const rules: PairRules = {
      vocabSize: this.vocabSize,
      usesRejected,
      autoInsertEmptySystemMsg: true,
      maxLength: this.maxLength,
      maxPromptLength: Math.floor(this.maxLength / 2),
      truncationMode: "keep_end",
    };
    const pairs: Pair[] = [];
    await inArea("DATA_INVALID", async () => {
      for await (
        const { pair } of this.parts.pool.pairs(shaped(rows, { usesRejected, isMeasured: true }), rules)
      ) pairs.push(pair);
    });
    return pairs;
  }

  #checkOpen(): void {
    if (this.#isDisposed) throw this.#closed();
  }

  #closed(): UserError {
    return new UserError(`${this.folder}: the model was disposed of: load it again`, 1, "DISPOSED");
  }
}

async function* oneRow(row: Row): AsyncGenerator<Row> {
  yield row;
}
