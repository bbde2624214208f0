import { UserError } from "../errors.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { messagesOf, textsOf } from "./messages.ts";
import { type Notice, oneOfEach, otherEnd } from "./notices.ts";
import { render, type RenderOptions } from "./render.ts";
import { rowNotices } from "./shapes.ts";
import type { Pair } from "./pair.ts";
import { tokenizePair, type Truncation } from "./tokenize.ts";

/** How a row becomes a pair; see `render` and `tokenizePair`. */
export interface PairRules extends RenderOptions, Truncation {
  /** Rows of the model's embedding: every token id must be below. */
  vocabSize: number;
}

/** A row as a pair. */
export interface TokenizedRow {
  pair: Pair;
  /** What may not be meant in the row, one of each kind. */
  notices: Notice[];
}

/**
 * Renders and tokenizes a row.
 *
 * @param where the row's place, which begins every message.
 * @param tokenizing called between the two.
 * @throws {UserError} for a row that cannot be used.
 */
export function pairOf(
  row: Record<string, unknown>,
  where: string,
  tokenizer: Tokenizer,
  rules: PairRules,
  tokenizing?: () => void,
): TokenizedRow {
  try {
    const { prompt, chosen, rejected, notices } = render(row, tokenizer, rules);
    tokenizing?.();
    const pair = { ...tokenizePair(prompt, chosen, rejected, tokenizer, rules), where };
    checkIds(pair.chosen.ids, rules.vocabSize);
    if (pair.rejected) checkIds(pair.rejected.ids, rules.vocabSize);
    for (const text of [chosen, rejected]) {
      const end = text === undefined ? undefined : otherEnd(text, tokenizer);
      if (end !== undefined) notices.push({ kind: "otherEnd", detail: end });
    }
    notices.push(...rowNotices(row).map((kind) => ({ kind })));
    return { pair, notices: oneOfEach(notices) };
  } catch (error) {
    if (error instanceof UserError) throw new UserError(`${where}: ${error.message}`, error.status);
    throw error;
  }
}

/**
 * A user's message, or a conversation, as the model sees it before it answers. Where its template has no system
 * message, the first user message begins with it.
 *
 * @throws {UserError} for what is no list of messages, and for one where the model has no chat template.
 */
export function promptIds(
  prompt: string | readonly Message[],
  tokenizer: Tokenizer,
  tokenizing?: () => void,
): number[] {
  if (typeof prompt !== "string" && tokenizer.chatTemplate === undefined) {
    throw new UserError("expected a text, since the model has no chat template, found messages");
  }
  const messages = typeof prompt === "string"
    ? [{ role: "user", content: prompt }]
    : messagesOf(prompt, "messages");
  const rendered = tokenizer.chatTemplate ? renderPrompt(messages, tokenizer) : prompt as string;
  tokenizing?.();
  const ids = tokenizer.encode(rendered);
  const bos = tokenizer.bosTokenId;
  return bos !== undefined && ids[0] !== bos ? [bos, ...ids] : ids;
}

function renderPrompt(messages: readonly Message[], tokenizer: Tokenizer): string {
  const render = (messages: readonly Message[]) =>
    tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
  if (messages[0]?.role !== "system") return render(messages);
  const folded = withSystemInUser(messages);
  try {
    const rendered = render(messages);
    // Some templates refuse what they do not know, and some leave it out.
    const isThere = messages.length === 1 || textsOf(messages[0]).every((text) =>
      rendered.includes(text.trim())
    ) ||
      rendered !== render(messages.slice(1));
    return isThere ? rendered : render(folded);
  } catch (error) {
    try {
      return render(folded);
    } catch {
      throw error;
    }
  }
}

/** The conversation with its first message within the first of the user's. */
function withSystemInUser([system, ...rest]: readonly Message[]): Message[] {
  const i = rest.findIndex(({ role }) => role === "user");
  const user = rest[i] ?? { role: "user", content: "" };
  const parts = [system, user].map(({ content }) => content ?? "");
  const content = parts.every((part) => typeof part === "string")
    ? parts.filter((part) => part !== "").join("\n\n")
    : parts.flatMap((part) => typeof part === "string" ? [{ type: "text", text: part }] : part);
  return i < 0 ? [{ role: "user", content }, ...rest] : rest.with(i, { ...user, content });
}

/** @throws {UserError} for an id that the model has no embedding of. */
export function checkIds(ids: readonly number[], vocabSize: number): void {
  const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (wrong === undefined) return;
  throw new UserError(
    `expected token ids below the model's vocab_size of ${vocabSize}, found ${wrong}: tokenizer and model do not ` +
      "belong together",
  );
}
