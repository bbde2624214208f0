/** A model that is there to answer and to be measured, not to be trained. */
import { pack } from "../batch/pack.ts";
import { memoryRows, type Rows } from "../data/memory.ts";
import type { Pair, Sequence } from "../data/pair.ts";
import type { PairRules } from "../data/pair_of.ts";
import { shaped } from "../data/pairs.ts";
import type { Row } from "../data/row.ts";
import { inArea, UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { evaluate } from "../training/evaluate.ts";
import { type Metrics, summarize } from "../training/metrics.ts";
import { type Answer, type AnswerOptions, answerTo } from "./answer.ts";
import { type LoadOptions, loadParts, type Parts, type PartsOptions } from "./load.ts";
import { Generation } from "./pieces.ts";

export type { LoadOptions } from "./load.ts";

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
  const { answers = 1 } = options;
  if (!Number.isInteger(answers) || answers < 1) {
    throw new UserError(`answers: expected a whole number from 1, found ${show(answers)}`, 2);
  }
  return await loadOntoGpu(name, { ...options, answers, pairs: 1 });
}

/** As `loadModel`, of what was asked for; its parts can be had. */
export async function loadOntoGpu(name: string, options: PartsOptions): Promise<GpuModel> {
  return new GpuModel(await loadParts(name, options));
}

export class GpuModel implements Model {
  /** What is answered whole, though the model is disposed of meanwhile. */
  readonly #calls = new Set<Promise<unknown>>();
  #isDisposed = false;

  constructor(readonly parts: Parts) {}

  get folder(): string {
    return this.parts.folder;
  }

  get maxLength(): number {
    return this.parts.maxLength;
  }

  generate(prompt: string | readonly Message[], options: AnswerOptions = {}): Generation {
    return new Generation(() => {
      this.#checkOpen();
      return answerTo(prompt, options, { ...this.parts, generator: this.parts.generator! });
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
    const { pool, gpu } = this.parts;
    const decoder = this.parts.decoder!;
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
    const { gpu } = this.parts;
    const pairs = await this.#pairs((await memoryRows(rows, "evaluate")).read(), true);
    if (pairs.length === 0) throw new UserError("evaluate: expected rows, found none", 1, "DATA_INVALID");
    const store = {
      length: pairs.length,
      read: (indices: readonly number[]) => Promise.resolve(indices.map((index) => pairs[index])),
    };
    return summarize((await this.parts.turns.run(() => evaluate(gpu, this.parts.decoder!, store, 1)))!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await Promise.allSettled(this.#calls);
    await this.parts.turns.close(() => this.#closed());
    await this.parts[Symbol.asyncDispose]();
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
      vocabSize: this.parts.vocabSize,
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
