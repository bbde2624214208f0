/** A model that is there to answer and to be measured, not to be trained. */
import { parameterCount } from "../parameters/parameter.ts";
import { Decoder } from "../graph/decoder.ts";
import { TokenizerPool } from "../data/pool.ts";
import type { Pair } from "../data/pair.ts";
import { shaped } from "../data/pairs.ts";
import { type Row, rowAt } from "../data/row.ts";
import { openGpu } from "../gpu/device.ts";
import { Pipelines } from "../gpu/program.ts";
import { type FetchEvents, resolveModel } from "../hub/hub.ts";
import { losses } from "../losses/losses.ts";
import { netOf } from "../models/models.ts";
import { openModel } from "../weights/weights.ts";
import { adapterOf, logitsBudget } from "../planning/plan.ts";
import { rememberedTiles } from "../planning/tune.ts";
import { evaluate } from "../training/evaluate.ts";
import { type Metrics, summarize } from "../training/metrics.ts";
import { generate } from "./generate.ts";

export interface LoadOptions extends FetchEvents {
  /** Most tokens of a prompt and its answer, or of a prompt and a response: 1,024. */
  maxLength?: number;
  /** Any object with the WebGPU API; the runtime's own by default. */
  gpu?: GPU;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
}

/** A conversation's prompt and two answers to it: texts, or messages as in a data file's row. */
export interface PreferenceRow {
  prompt?: unknown;
  chosen: unknown;
  rejected: unknown;
}

/** A model on the GPU. `destroy` gives that back. */
export interface LoadedModel {
  /** The folder that it was loaded from. */
  readonly folder: string;
  /** The most likely answer to a user's message, token by token; 256 of them at most unless said. */
  generate(prompt: string, options?: { maxNewTokens?: number; signal?: AbortSignal }): Promise<string>;
  /**
   * Means over the pairs under SimPER's loss: its value, rewards, and how often the chosen answer is the likelier. Of a pair
   * longer than `maxLength`, the prompt is cut to half of that.
   *
   * @throws {UserError} for the first row that cannot be used; rows count from 0.
   */
  evaluate(rows: Iterable<PreferenceRow>): Promise<Metrics>;
  destroy(): void;
}

/**
 * Loads a model's folder, or what the Hub has under `owner/name`, onto the GPU, without gradients.
 *
 * @throws {UserError} where it cannot be had, is not supported, or the GPU has not enough memory.
 *
 * @example
 * ```ts ignore
 * const model = await loadModel("out/my-run");
 * console.log(await model.generate("What is the capital of Italy?"));
 * model.destroy();
 * ```
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const { maxLength = 1024, readsOnly, log = () => {} } = options;
  using held = new DisposableStack();
  const folder = await resolveModel(name, options);
  const weights = await openModel(folder, (message) => log("warning", message));
  try {
    const pool = held.adopt(await TokenizerPool.open(folder, { readsOnly }), (pool) => pool.close());
    const { eosTokenId } = pool.vocabulary;
    const gpu = held.adopt(await openGpu(options.gpu), (gpu) => gpu.destroy());
    const adapter = { ...adapterOf(gpu), tiles: await rememberedTiles(gpu) };
    const net = netOf(weights.model);
    const decoder = held.adopt(
      new Decoder(net, {
        // The two responses of a pair that share nothing.
        tokens: 2 * maxLength,
        labels: 2 * maxLength,
        pairs: 1,
        positions: maxLength,
        logitsBytes: logitsBudget(4 * parameterCount(net.parameters), adapter.largestBuffer),
        checkpointing: false,
      }, { ...adapter, loss: losses.simper.wgsl, eosTokenId, training: false }),
      (decoder) => decoder.destroy(),
    );
    await decoder.allocate(gpu, new Pipelines(gpu, options.signal));
    await decoder.parameters.load(gpu, weights);
    const rules = {
      vocabSize: weights.model.vocabSize,
      usesRejected: true,
      autoInsertEmptySystemMsg: true,
      maxLength,
      maxPromptLength: Math.floor(maxLength / 2),
      truncationMode: "keep_end" as const,
    };
    const owned = held.move();
    return {
      folder,
      generate: async (prompt, { maxNewTokens = 256, signal } = {}) => {
        const ids = await generate(gpu, decoder, await pool.promptIds(prompt), {
          maxNewTokens,
          eosTokenId,
          signal,
        });
        const [text] = await pool.texts([ids], "the answer", { skipSpecialTokens: true });
        return text.trim();
      },
      evaluate: async (rows) => {
        const pairs: Pair[] = [];
        for await (const { pair } of pool.pairs(shaped(placed(rows), rules), rules)) pairs.push(pair);
        const store = {
          length: pairs.length,
          read: (indices: readonly number[]) => Promise.resolve(indices.map((index) => pairs[index])),
        };
        return summarize((await evaluate(gpu, decoder, store, 1))!);
      },
      destroy: () => owned.dispose(),
    };
  } finally {
    await weights.close();
  }
}

/** The rows as those of a data file. */
async function* placed(rows: Iterable<PreferenceRow>): AsyncGenerator<Row> {
  let number = 0;
  for (const row of rows) yield rowAt({ ...row }, { file: "evaluate", unit: "row", number: number++ });
}
