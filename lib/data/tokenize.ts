import { UserError } from "../errors.ts";
import type { Pair, Sequence } from "./pair.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** How long a pair may be, and what is cut where it is longer. */
export interface Truncation {
  /** Most tokens of prompt and response together. */
  maxLength: number;
  /** Tokens that the prompt keeps where the pair is longer. */
  maxPromptLength: number;
  /** Which part of a prompt that is cut is kept. */
  truncationMode: "keep_end" | "keep_start";
  /** As `RenderOptions`. */
  labelGenerationPrompt?: boolean;
}

interface Parts {
  prompt: number[];
  answer: number[];
}

/**
 * Tokenizes a prompt with each of its responses, by the rules of the published SimPER trainer. Prompt and response
 * are tokenized as one text; the response begins where the prompt's own tokens end, or one token earlier if its last
 * token merged with the response, unless labels are TRL's (`labelGenerationPrompt` is false): there such a token has
 * none. BOS is put in front and EOS behind unless they are there. Where the prompt and the longer response exceed
 * `maxLength`, the prompt is cut to `maxPromptLength` tokens, and if that is not enough, each response to `maxLength
 * - maxPromptLength`.
 *
 * @throws {UserError} without an EOS token, for two BOS tokens in front, for prompts that tokenize differently before
 * the two responses, and where no token of a response is left to train on.
 */
export function tokenizePair(
  prompt: string,
  chosen: string,
  rejected: string | undefined,
  tokenizer: Tokenizer,
  { maxLength, maxPromptLength, truncationMode, labelGenerationPrompt = true }: Truncation,
): Omit<Pair, "where"> {
  const alone = tokenizer.encode(prompt);
  const parts = [chosen, rejected].filter((answer) => answer !== undefined)
    .map((answer) => split(alone, tokenizer.encode(prompt + answer), labelGenerationPrompt));
  if (parts.length === 2) checkSamePrompt(parts[0].prompt, parts[1].prompt);
  for (const part of parts) addSpecialTokens(part, tokenizer);

  const longest = Math.max(...parts.map(({ answer }) => answer.length));
  const tooLong = (part: Parts) => part.prompt.length + longest > maxLength;
  let truncated: Pair["truncated"] = parts.some(tooLong) && "prompt";
  for (const part of parts.filter(tooLong)) {
    part.prompt = truncationMode === "keep_start"
      ? part.prompt.slice(0, maxPromptLength)
      : part.prompt.slice(-maxPromptLength);
  }
  if (parts.some(tooLong)) truncated = "response";
  for (const part of parts.filter(tooLong)) part.answer = part.answer.slice(0, maxLength - maxPromptLength);

  const [chosenIds, rejectedIds] = parts.map(sequenceOf);
  return { chosen: chosenIds, ...(rejectedIds && { rejected: rejectedIds }), truncated };
}

function split(alone: number[], full: number[], isPublished: boolean): Parts {
  const merged = isPublished && alone.some((id, i) => id !== full[i]);
  const length = merged ? alone.length - 1 : alone.length;
  return { prompt: full.slice(0, length), answer: full.slice(length) };
}

function checkSamePrompt(a: number[], b: number[]): void {
  let different = Math.abs(a.length - b.length) > 1 ? 2 : 0;
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) different++;
  if (different > 1) {
    throw new UserError(
      "expected the prompt to have the same tokens before chosen and rejected but for its last one, found more " +
        "that differ: the responses change how the prompt is tokenized, so begin them after a space or a new line",
    );
  }
}

function addSpecialTokens(part: Parts, { bosToken, bosTokenId, eosTokenId }: Tokenizer): void {
  if (eosTokenId === undefined) {
    throw new UserError(
      "the tokenizer has no eos_token, which must end every response: add it to tokenizer_config.json",
    );
  }
  if (bosTokenId !== undefined) {
    if (part.prompt[0] !== bosTokenId) part.prompt.unshift(bosTokenId);
    if ((part.prompt[1] ?? part.answer[0]) === bosTokenId) {
      throw new UserError(
        `expected one ${bosToken} in front, found two: the text or the chat template writes it twice; take one out`,
      );
    }
  }
  if (part.answer.at(-1) !== eosTokenId) part.answer.push(eosTokenId);
}

function sequenceOf({ prompt, answer }: Parts): Sequence {
  const ids = [...prompt, ...answer];
  // The first token of a sequence has nothing before it that could predict it.
  if (ids.length - Math.max(prompt.length, 1) < 1) {
    throw new UserError(
      `no token of the response is left to train on (${prompt.length} tokens of prompt, ${answer.length} of ` +
        "response): the prompt must not be empty, and max_length must exceed max_prompt_length",
    );
  }
  return { ids, promptLength: prompt.length };
}
