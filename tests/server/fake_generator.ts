/**
 * A model without a GPU, over the tokens of configs/tiny/model: it holds some likely by chance, or those that it is
 * told to say.
 */
import type { GeneratedToken, GenerationRequest, Generator } from "../../lib/generation/request.ts";

/** How it answers. */
export interface FakeOptions {
  positions?: number;
  /** What it says, whatever is asked: the likeliest tokens one after the other. */
  says?: readonly number[];
  /** Milliseconds for a token. */
  pause?: number;
}

export class FakeGenerator implements Generator {
  readonly positions: number;
  readonly vocabSize = 1008;
  /** What was asked. */
  readonly requests: GenerationRequest[] = [];
  #running = 0;

  constructor(readonly options: FakeOptions = {}) {
    this.positions = options.positions ?? 256;
  }

  get load() {
    return { running: this.#running, waiting: 0, keptTokens: 0, mostTokens: 1024 };
  }

  async *tokens(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken> {
    const { ids, maxNewTokens, eosTokenIds, echo } = request;
    this.requests.push(request);
    this.#running++;
    try {
      const row = [...ids];
      for (let i = 1; echo && i < ids.length; i++) yield this.#token(ids.slice(0, i), ids[i], request);
      for (let i = 0; i < maxNewTokens; i++) {
        await new Promise((resolve) => setTimeout(resolve, this.options.pause ?? 0));
        signal?.throwIfAborted();
        const logits = this.#logits(row, i);
        const { temperature, seed } = request.sampling;
        const id = temperature === 0 ? argmax(logits) : mix(seed, row.length) % this.vocabSize;
        yield this.#token(row, id, request, i);
        if (eosTokenIds.includes(id)) return;
        row.push(id);
      }
    } finally {
      this.#running--;
    }
  }

  #logits(row: readonly number[], place?: number): Float64Array {
    const wanted = place === undefined ? undefined : this.options.says?.[place];
    return Float64Array.from(
      { length: this.vocabSize },
      (_, id) => id === wanted ? 20 : (mix(row.at(-1)! + 7919 * row.length, id) % 10000) / 1000,
    );
  }

  #token(row: readonly number[], id: number, { top }: GenerationRequest, place?: number): GeneratedToken {
    const logits = this.#logits(row, place);
    const sum = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
    const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
    const told = (id: number) => ({ id, logProbability: logits[id] - sum });
    return { ...told(id), top: order.slice(0, top).map(told) };
  }
}

const argmax = (values: Float64Array) =>
  values.indexOf(values.reduce((most, value) => Math.max(most, value)));

/** Some number that follows from two. */
function mix(a: number, b: number): number {
  let hash = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x165667b1, 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 15), 0x27d4eb2f);
  return (hash ^ (hash >>> 13)) >>> 0;
}
