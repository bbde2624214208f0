import { type Generator, GREEDY, type Sampling } from "./request.ts";

/** How a continuation is made. */
export interface GenerateOptions {
  /** Most tokens of it, and no more than the generator has room for. */
  maxNewTokens: number;
  /** Generation ends before any of these tokens. */
  eosTokenIds?: readonly number[];
  /** How tokens are drawn; by default the most likely one each time. */
  sampling?: Sampling;
  /** Hears of the number of tokens so far. */
  onToken?: (tokens: number) => void;
  /** Ends it: `generate` throws the signal's reason. */
  signal?: AbortSignal;
}

/** What follows the tokens `ids`, without the one that ends it. */
export async function generate(
  generator: Generator,
  ids: readonly number[],
  { maxNewTokens, eosTokenIds = [], sampling = GREEDY, onToken, signal }: GenerateOptions,
): Promise<number[]> {
  const answer: number[] = [];
  const most = Math.min(maxNewTokens, generator.positions - ids.length);
  const request = { ids, maxNewTokens: most, sampling, eosTokenIds, top: 0, echo: false };
  for await (const { id } of generator.tokens(request, signal)) {
    if (eosTokenIds.includes(id)) break;
    answer.push(id);
    onToken?.(answer.length);
  }
  return answer;
}
