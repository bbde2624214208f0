/** Log-probabilities as OpenAI's two endpoints tell them. */
import type { GeneratedToken } from "../generation/request.ts";
import type { TokenTexts } from "./token_texts.ts";

/** Those of a completion. */
export interface CompletionLogprobs {
  tokens: string[];
  /** The first token of a prompt has none. */
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the text, in UTF-16 units. */
  text_offset: number[];
}

/** Those of a chat's answer. */
export interface ChatLogprobs {
  content: (TokenLogprob & { top_logprobs: TokenLogprob[] })[];
}

interface TokenLogprob {
  token: string;
  logprob: number;
  /** The token's bytes of UTF-8; null for a part of a character. */
  bytes: number[] | null;
}

/** What JSON has no number for: a token that the model holds impossible. */
const LEAST = -9999;
const finite = (value: number) => Number.isFinite(value) ? value : LEAST;

/**
 * @param first the first token of a prompt, which has no probability.
 * @param offset where the tokens begin in the text.
 */
export async function completionLogprobs(
  texts: TokenTexts,
  tokens: readonly GeneratedToken[],
  { first, offset }: { first?: number; offset: number },
): Promise<CompletionLogprobs> {
  await texts.of([...first === undefined ? [] : [first], ...tokens.flatMap(idsOf)]);
  const found: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  const add = (text: string, value: number | null, top: Record<string, number> | null) => {
    found.tokens.push(text);
    found.token_logprobs.push(value);
    found.top_logprobs.push(top);
    found.text_offset.push(offset);
    offset += text.length;
  };
  if (first !== undefined) add((await texts.of([first]))[0], null, null);
  for (const token of tokens) {
    const [text, ...others] = await texts.of(idsOf(token));
    const value = finite(token.logProbability);
    // Of tokens with one text the likeliest stands for it: the largest value is always there.
    const top: Map<string, number> = new Map();
    token.top.forEach(({ logProbability }, i) => {
      if (!top.has(others[i])) top.set(others[i], finite(logProbability));
    });
    if (!top.has(text)) top.set(text, value);
    add(text, value, Object.fromEntries(top));
  }
  return found;
}

/** The same of a chat. */
export async function chatLogprobs(
  texts: TokenTexts,
  tokens: readonly GeneratedToken[],
): Promise<ChatLogprobs> {
  await texts.of(tokens.flatMap(idsOf));
  const content: ChatLogprobs["content"] = [];
  for (const token of tokens) {
    const [text, ...others] = await texts.of(idsOf(token));
    content.push({
      ...tokenLogprob(text, token.logProbability),
      top_logprobs: token.top.map(({ logProbability }, i) => tokenLogprob(others[i], logProbability)),
    });
  }
  return { content };
}

const idsOf = ({ id, top }: GeneratedToken) => [id, ...top.map(({ id }) => id)];

function tokenLogprob(token: string, logProbability: number): TokenLogprob {
  const bytes = token.includes("\ufffd") ? null : [...new TextEncoder().encode(token)];
  return { token, logprob: finite(logProbability), bytes };
}
