/**
 * A pass of generation: tokens of any requests, which read and leave keys and values in caches, and what follows some
 * of them.
 */
import { ATTENTION_TILE, type AttentionTiles } from "../../kernels/attention.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { CHOICE_WORDS } from "../gpu/choice_operations.ts";
import { type KernelCall, type Pipelines, Program, writeTensor } from "../gpu/program.ts";
import type { ProductTiles } from "../gpu/tuning.ts";
import type { GenerationTensors, Machine } from "../graph/machine.ts";
import type { Net } from "../graph/net.ts";
import { machineOf, passesOf } from "../graph/passes.ts";
import { Uploads } from "../graph/uploads.ts";
import type { Parameters } from "../parameters/parameters.ts";
import type { Sampling } from "./request.ts";

/** A token of a pass. */
export interface PassToken {
  id: number;
  position: number;
  /** The cache's row of its request's first token. */
  first: number;
}

/** What is to be told of the token that follows a row of a pass. */
export interface PassLabel {
  row: number;
  sampling: Sampling;
  /** Tokens of the answer before it. */
  place: number;
  /** The token that is told instead of drawing one. */
  target?: number;
  top: number;
  /** The row of `seen`, where anything is penalised. */
  seen?: number;
  /** Where its result goes. */
  result: number;
}

/** What passes over the same caches have in common. */
export interface PassPlan {
  net: Net;
  plan: MemoryPlan;
  parameters: Parameters;
  /** One more than the largest position. */
  positions: number;
  /** Rows of a cache. */
  cacheRows: number;
  generation: Omit<GenerationTensors, "choices" | "drawn">;
}

/** Labels come in groups of so many: a piece of logits. */
export const LABEL_GROUP = 64;

/** The calls of a pass of so many tokens, and of what fills them. */
export class Pass {
  readonly calls: KernelCall[];
  readonly #machine: Machine;
  readonly #uploads: Uploads;
  readonly #choices: Tensor;
  /** Of all calls, and of those without the ones that draw: on some drivers that kernel takes seconds to compile. */
  #programs?: { drawing: Program; likeliest: Program; holding: Program };

  /**
   * @param tokens most tokens.
   * @param labels most of those whose next token is asked for: a multiple of `LABEL_GROUP`.
   */
  constructor(
    readonly plan: PassPlan,
    readonly tokens: number,
    readonly labels: number,
    kernels: { tiles: ProductTiles; attention: AttentionTiles },
  ) {
    const { net, positions } = plan;
    this.#choices = plan.plan.tensor("choices", "batch", [labels, CHOICE_WORDS]);
    const capacity = {
      tokens,
      labels,
      pairs: 1,
      positions,
      logitsBytes: LABEL_GROUP * 4 * Math.ceil(net.vocabSize / 4) * 4,
      checkpointing: false,
    };
    const drawn = plan.plan.tensor("drawn", "batch", [labels]);
    const generation = { ...plan.generation, choices: this.#choices, drawn };
    const options = { ...kernels, loss: "", training: false, generation };
    this.#machine = machineOf(net, plan.plan, plan.parameters, capacity, options);
    this.calls = passesOf(net, this.#machine).forward.flatMap(({ calls }) => calls);
    this.#uploads = new Uploads(this.#machine, net.ropes);
  }

  /** Compiles the kernels, over a plan that is allocated. */
  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    this.#machine.products.upload(gpu);
    this.#programs = {
      drawing: await Program.compile(pipelines, this.calls),
      holding: await Program.compile(pipelines, this.#machine.products.held?.calls ?? []),
      likeliest: await Program.compile(pipelines, this.calls.filter(({ label }) => label !== "draw")),
    };
    this.#uploads.writeTables(gpu, 0);
  }

  /** Takes over the weights as they are, where the pass has copies of its own. */
  hold(gpu: Gpu): void {
    const encoder = gpu.device.createCommandEncoder();
    this.#programs!.holding.encode(encoder, new Uint32Array());
    gpu.device.queue.submit([encoder.finish()]);
  }

  /** Writes the rotary tables of sequences of so many tokens, where they are not there. */
  writeTables(gpu: Gpu, longest: number): void {
    this.#uploads.writeTables(gpu, longest);
  }

  /** Says how many tokens and labels the next passes have. */
  count(gpu: Gpu, tokens: number, labels: number): void {
    const { rowCounts, rows, tokenRows, labelSlot, pieces, pieceRows } = this.#machine.batch;
    rowCounts.set(tokenRows.slot, { count: tokens });
    rowCounts.set(labelSlot.slot, { count: labels });
    for (const [i, { slot }] of pieces.entries()) {
      rowCounts.set(slot, { count: Math.max(0, Math.min(pieceRows, labels - i * pieceRows)) });
    }
    rowCounts.upload(gpu, rows);
  }

  /** Says which tokens they are. */
  writeIds(gpu: Gpu, ids: readonly number[]): void {
    writeTensor(gpu, this.#machine.batch.uploaded.ids, Uint32Array.from(ids));
  }

  /** Submits a pass of so many tokens at these places, with these labels. */
  run(gpu: Gpu, tokens: readonly Omit<PassToken, "id">[], labels: readonly PassLabel[]): void {
    const { batch } = this.#machine;
    for (const [i, { spans, queryTiles }] of batch.masks.entries()) {
      const mask = maskOf(tokens, this.plan.net.windows[i], this.plan.cacheRows);
      writeTensor(gpu, spans, mask.spans);
      writeTensor(gpu, queryTiles, mask.queryTiles);
    }
    if (labels.length > 0) {
      writeTensor(gpu, batch.uploaded.labelRows, Uint32Array.from(labels, ({ row }) => row));
      writeTensor(gpu, this.#choices, choiceWords(labels));
    }
    const encoder = gpu.device.createCommandEncoder();
    const { drawing, likeliest } = this.#programs!;
    const isDrawn = labels.some(({ sampling, seen }) => sampling.temperature > 0 || seen !== undefined);
    (isDrawn ? drawing : likeliest).encode(encoder, batch.rowCounts.counts);
    gpu.device.queue.submit([encoder.finish()]);
  }
}

/** Spans over a cache: each token sees its request's rows up to its own, as far back as the window reaches. */
function maskOf(tokens: readonly Omit<PassToken, "id">[], window = Infinity, cacheRows: number) {
  const spans = new Uint32Array(4 * tokens.length);
  const tiles = new Uint32Array(4 * Math.ceil(tokens.length / ATTENTION_TILE));
  for (const [i, { position, first }] of tokens.entries()) {
    const from = first + Math.max(0, position - window + 1);
    const end = first + position + 1;
    // The second interval is empty: it begins behind the row's own, as kernels count it.
    spans.set([from, end, cacheRows - tokens.length + i + 1, position], 4 * i);
    const tile = 4 * Math.floor(i / ATTENTION_TILE);
    const [fromTile, endTile] = [Math.floor(from / ATTENTION_TILE), Math.ceil(end / ATTENTION_TILE)];
    tiles[tile] = i % ATTENTION_TILE === 0 ? fromTile : Math.min(tiles[tile], fromTile);
    tiles[tile + 1] = Math.max(tiles[tile + 1], endTile);
  }
  return { spans, queryTiles: tiles };
}

/** `struct Choice` of `kernels/choose.wgsl`. */
export function choiceWords(labels: readonly PassLabel[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(CHOICE_WORDS * labels.length);
  const floats = new Float32Array(words.buffer);
  for (const [i, { sampling: s, place, target, top, seen, result }] of labels.entries()) {
    const at = CHOICE_WORDS * i;
    floats.set([s.temperature, s.topP, s.minP], at);
    words[at + 3] = Math.min(s.topK, 0xffffffff);
    floats.set([s.repetitionPenalty, s.presencePenalty, s.frequencyPenalty], at + 4);
    words.set([
      seen === undefined ? 0 : seen + 1,
      s.seed % 2 ** 32,
      Math.floor(s.seed / 2 ** 32),
      place,
      target === undefined ? 0 : target + 1,
      top,
      result,
    ], at + 7);
  }
  return words;
}
