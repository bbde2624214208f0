/** How a token is drawn, in float64 and by sorting: see `kernels/draw.wgsl`. */
import type { Sampling } from "../../lib/generation/request.ts";

/** What the answer, and the prompt, have of a token. */
export interface Seen {
  inPrompt: boolean;
  count: number;
}

/** The logits after penalties and temperature, and the tokens that are kept, the likeliest first. */
export function kept(logits: readonly number[], s: Sampling, seen: readonly Seen[] = []) {
  const adjusted = logits.map((logit, token) => {
    const { inPrompt, count } = seen[token] ?? { inPrompt: false, count: 0 };
    const isSeen = inPrompt || count > 0;
    const repeated = !isSeen ? logit : logit > 0 ? logit / s.repetitionPenalty : logit * s.repetitionPenalty;
    const penalised = repeated - (count > 0 ? s.presencePenalty : 0) - s.frequencyPenalty * count;
    return penalised / (s.temperature || 1);
  });
  const order = adjusted.map((_, token) => token).sort((a, b) => adjusted[b] - adjusted[a] || a - b);
  const weight = (token: number) => Math.exp(adjusted[token] - adjusted[order[0]]);
  const sum = (tokens: number[]) => tokens.reduce((total, token) => total + weight(token), 0);
  const upTo = (tokens: number[], least: number) => tokens.filter((token) => adjusted[token] >= least);
  let tokens = s.topK > 0 && s.topK < order.length ? upTo(order, adjusted[order[s.topK - 1]]) : order;
  if (s.topP < 1) {
    const wanted = s.topP * sum(tokens);
    let reached = 0;
    const last = tokens.find((token) => (reached += weight(token)) >= wanted)!;
    tokens = upTo(tokens, adjusted[last]);
  }
  if (s.minP > 0) tokens = upTo(tokens, adjusted[order[0]] + Math.log(s.minP));
  const all = sum(tokens);
  return { adjusted, tokens, probabilities: tokens.map((token) => weight(token) / all) };
}

/** The token that is drawn at a place of an answer. */
export function draw(
  logits: readonly number[],
  s: Sampling,
  place: number,
  seen: readonly Seen[] = [],
): number {
  const { adjusted, tokens } = kept(logits, s, seen);
  if (s.temperature === 0) return tokens[0];
  const [low, high] = hash2(s.seed % 2 ** 32, Math.floor(s.seed / 2 ** 32));
  const [a, b] = hash2(low ^ place, high ^ 0x9e3779b9);
  const race = (token: number) => {
    const bits = hash2(a ^ token, b ^ Math.imul(token, 0x85ebca6b))[0];
    return adjusted[token] - Math.log(-Math.log((bits + 0.5) / 2 ** 32));
  };
  return tokens.reduce((best, token) => race(token) > race(best) ? token : best);
}

/** pcg2d of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3), 2020). */
function hash2(first: number, second: number): [number, number] {
  const step = (value: number) => (Math.imul(value, 1664525) + 1013904223) >>> 0;
  let [x, y] = [step(first), step(second)];
  const mix = () => {
    x = (x + Math.imul(y, 1664525)) >>> 0;
    y = (y + Math.imul(x, 1664525)) >>> 0;
    [x, y] = [(x ^ (x >>> 16)) >>> 0, (y ^ (y >>> 16)) >>> 0];
  };
  mix();
  mix();
  return [x, y];
}
