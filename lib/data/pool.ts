import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { loadVocabulary, type Vocabulary } from "../tokenizer/tokenizer.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { PairRules, TokenizedRow } from "./pair_of.ts";
import type { Row } from "./row.ts";
import { TokenizerWorker } from "./tokenizer_worker.ts";
import type { PlacedRow, WorkerAnswer } from "./worker_messages.ts";

/** What a pool is made of; every field may be left out. */
export interface PoolOptions {
  /** Jinja text in place of the model's. */
  chatTemplate?: string;
  /** What a template is told that asks for the date; by default when the pool was opened. */
  date?: Date;
  /** Most workers; by default as many as there are cores, and 8. */
  workers?: number;
  /** Milliseconds of processor time that a row may take to be rendered, and again to be tokenized: 10,000. */
  patience?: number;
  /** Most megabytes of a worker's JavaScript values: 768. */
  megabytes?: number;
  /**
   * Whether the workers may read and do nothing else. Deno wants `--unstable-worker-options` for it, and ends the
   * process without; so it is false unless said.
   */
  readsOnly?: boolean;
  /** Milliseconds of work after which the other workers are started: 1,000. */
  headStart?: number;
}

/** One thread reads and writes for all; more would wait for it, and each holds a tokenizer. */
const MOST_WORKERS = 8;
const PATIENCE = 10_000;
/** The tokenizers of the largest vocabularies take 300. */
const MEGABYTES = 768;
const HEAD_START = 1000;
/** A worker has one request in hand and one waiting. */
const REQUESTS_PER_WORKER = 2;
const ROWS_PER_REQUEST = 64;
const CHARACTERS_PER_REQUEST = 2 ** 20;
/** The keys of a row that are looked at. */
const READ = new Set(["prompt", "chosen", "rejected", "messages", "tools", "documents"]);

/**
 * A model's tokenizer in Web Workers. There a chat template or a regular expression that does not come to an end can
 * be stopped: see `TokenizerWorker`. One worker is started with the first request, and the others when it has had
 * work for a second, so a small set does not pay for them. Call `close` when done.
 *
 * @example
 * ```ts ignore
 * const pool = await TokenizerPool.open("models/SmolLM2-135M-Instruct");
 * const ids = await pool.promptIds("What is the capital of Italy?");
 * pool.close();
 * ```
 */
export class TokenizerPool {
  readonly #folder: string;
  readonly #options: PoolOptions;
  readonly #workers: TokenizerWorker[] = [];
  #most: number;
  #start?: number;
  #isClosed = false;

  private constructor(
    folder: string,
    /** What is known of the tokenizer without asking a worker. */
    readonly vocabulary: Vocabulary,
    options: PoolOptions,
  ) {
    this.#folder = folder;
    this.#options = options;
    this.#most = options.workers ?? Math.min(MOST_WORKERS, navigator.hardwareConcurrency);
  }

  /**
   * Reads what is known of the tokenizer of a model folder; no worker is started yet.
   * @throws {UserError} as `loadTokenizer`.
   */
  static async open(folder: string, given: PoolOptions = {}): Promise<TokenizerPool> {
    // One moment for all workers, whenever they are started.
    const options = { date: new Date(), ...given };
    return new TokenizerPool(folder, await loadVocabulary(folder, options), options);
  }

  /**
   * A user's message, or a conversation, as the model sees it before it answers.
   * @throws {UserError} as `promptIds` of pair_of.ts.
   */
  async promptIds(prompt: string | readonly Message[]): Promise<number[]> {
    const where = typeof prompt === "string" ? `prompts: ${show(prompt)}` : "prompts: messages";
    const answer = await this.#worker().ask({ kind: "prompt", prompt }, () => where);
    throwFailure(answer);
    return answer.ids!;
  }

  /**
   * The token ids of each text as it stands, without a chat template.
   *
   * @param where what the texts are of, for a message.
   * @param options.addSpecialTokens whether those come with it that transformers' `tok(text)` adds.
   * @throws {UserError} where tokenizing does not come to an end, or a text is none of Unicode.
   */
  async idsOf(
    texts: readonly string[],
    where: string,
    { addSpecialTokens = false } = {},
  ): Promise<number[][]> {
    const answer = await this.#worker().ask({ kind: "ids", texts, addSpecialTokens }, () => where);
    throwFailure(answer);
    return answer.lists!;
  }

  /**
   * What each list of token ids says.
   *
   * @param where what the lists are of, for a message.
   * @throws {UserError} where the tokenizer's decoder does not come to an end.
   */
  async texts(lists: number[][], where: string, { skipSpecialTokens = false } = {}): Promise<string[]> {
    const answer = await this.#worker().ask({ kind: "texts", lists, skipSpecialTokens }, () => where);
    throwFailure(answer);
    return answer.texts!;
  }

  /** Closes all workers but one, where any was started: files of the model that change during a run do not touch it. */
  rest(): void {
    for (const worker of this.#workers.splice(1)) worker.close();
    this.#most = 1;
  }

  /**
   * Rows as pairs, in order: the same whatever the number of workers. Of the rows, some hundreds are read ahead.
   *
   * @throws {UserError} for the first row that cannot be used, after those before it.
   * @internal
   */
  async *pairs(rows: AsyncIterable<Row>, rules: PairRules): AsyncGenerator<TokenizedRow & { row: Row }> {
    const queue: { rows: Row[]; answer: Promise<WorkerAnswer> }[] = [];
    async function* first() {
      const { rows, answer } = queue.shift()!;
      const found = await answer;
      for (const [i, tokenized] of found.rows.entries()) yield { ...tokenized, row: rows[i] };
      throwFailure(found);
    }
    const batches = batchesOf(rows);
    try {
      let failure: { error: unknown } | undefined;
      for (;;) {
        // A row that cannot be read is told after those before it that cannot be used.
        const batch = await batches.next().then(({ value }) => value, (error) => void (failure = { error }));
        if (!batch) break;
        queue.push({ rows: batch, answer: this.#ask(batch, rules) });
        while (queue.length >= REQUESTS_PER_WORKER * this.#workers.length) yield* first();
      }
      while (queue.length > 0) yield* first();
      if (failure) throw failure.error;
    } finally {
      await batches.return(undefined);
    }
  }

  #ask(batch: Row[], rules: PairRules): Promise<WorkerAnswer> {
    const rows = batch.map(placed);
    const answer = this.#worker().ask({ kind: "rows", rows, rules }, (item) => rows[item].where)
      .catch((error: unknown) => {
        for (const row of rows) checkSendable(row);
        throw error;
      });
    // A failure is told when its turn comes.
    answer.catch(() => {});
    return answer;
  }

  /** Ends all workers: requests that are not answered yet fail, and later ones. */
  close(): void {
    this.#isClosed = true;
    for (const worker of this.#workers.splice(0)) worker.close();
  }

  /** The one with the least to do. */
  #worker(): TokenizerWorker {
    if (this.#isClosed) throw new UserError(`${this.#folder}: its tokenizer was closed`, 1, "DISPOSED");
    this.#start ??= performance.now();
    const { chatTemplate, date, headStart = HEAD_START } = this.#options;
    const { patience = PATIENCE, megabytes = MEGABYTES, readsOnly = false } = this.#options;
    // One row that came to no end is no reason to refuse others.
    const failed = this.#workers.findIndex(({ hasFailed }) => hasFailed);
    if (failed >= 0) this.#workers.splice(failed, 1);
    const wanted = performance.now() - this.#start >= headStart ? this.#most : 1;
    while (this.#workers.length < wanted) {
      const { fingerprint, chatTemplate: foundTemplate } = this.vocabulary;
      const start = { folder: this.#folder, chatTemplate, date, fingerprint, foundTemplate };
      this.#workers.push(new TokenizerWorker(start, { patience, megabytes, readsOnly }));
    }
    return this.#workers.reduce((best, worker) => worker.load < best.load ? worker : best);
  }
}

/** Rows in pieces for one request each; those before a row that cannot be read come before its error. */
async function* batchesOf(rows: AsyncIterable<Row>): AsyncGenerator<Row[]> {
  let batch: Row[] = [];
  let characters = 0;
  let failure: { error: unknown } | undefined;
  try {
    for await (const row of rows) {
      batch.push(row);
      characters += charactersOf(row.row);
      if (batch.length === ROWS_PER_REQUEST || characters > CHARACTERS_PER_REQUEST) {
        yield batch;
        [batch, characters] = [[], 0];
      }
    }
  } catch (error) {
    failure = { error };
  }
  if (batch.length > 0) yield batch;
  if (failure) throw failure.error;
}

/** A row for a worker; of what is not looked at only the keys are left, which a message may name. */
function placed({ row, where }: Row): PlacedRow {
  const entries = Object.entries(row).map(([key, value]) => [key, READ.has(key) ? value : value && true]);
  return { row: Object.fromEntries(entries), where };
}

/** About how long a row is; what stands deeper than the text of a message does not count. */
function charactersOf(value: unknown, depth = 4): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null || depth === 0) return 1;
  return Object.values(value).reduce((sum: number, item) => sum + charactersOf(item, depth - 1), 1);
}

/** @throws {UserError} for a row with values within values without end. */
function checkSendable({ row, where }: PlacedRow): void {
  try {
    structuredClone(row);
  } catch (error) {
    throw new UserError(
      `${where}: expected texts or lists of messages, found what is none: ${(error as Error).message}`,
    );
  }
}

function throwFailure({ failure }: WorkerAnswer): void {
  if (!failure) return;
  throw failure.status === undefined
    ? new Error(`in a tokenizing worker: ${failure.message}`)
    : new UserError(failure.message, failure.status);
}
