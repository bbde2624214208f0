import { isDeepStrictEqual } from "node:util";
import { nearest, UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { withoutPrompt } from "./implicit_prompt.ts";
import { listOf, messagesOf } from "./messages.ts";
import { conversationNotices, type Notice, unusedColumns } from "./notices.ts";

/** A row as text: the prompt and what may follow it. */
export interface Rendered {
  prompt: string;
  chosen: string;
  rejected?: string;
  /** What may not be meant in the row. */
  notices: Notice[];
}

/** How rows are rendered. */
export interface RenderOptions {
  /** Put an empty system message in front where the chat template knows one and the row has none. */
  autoInsertEmptySystemMsg: boolean;
  /** Whether the loss looks at `rejected`; if not, it is not read, and `messages` may stand for `chosen`. */
  usesRejected: boolean;
  /**
   * Whether the header of the response, which a generation prompt writes, is a part of it; by default it is, as
   * published.
   */
  labelGenerationPrompt?: boolean;
}

/**
 * Renders a row of preference data; its shape says how.
 *
 * - Message lists `chosen` and `rejected`: a message list `prompt` is their prompt; without one (a text `prompt` is
 *   not looked at) the prompt is all of chosen but its last message, as in the published SimPER trainer. The whole
 *   conversation is rendered, and the response is what that adds to the rendering of the prompt. `tools` and
 *   `documents` of the row are handed to the template.
 * - Texts `prompt`, `chosen`, `rejected`: taken as they are.
 * - Texts `chosen` and `rejected` alone: transcripts as in Anthropic's hh-rlhf become message lists, if there is a chat
 *   template; other texts have as prompt what both begin with, as in TRL. See `withoutPrompt`.
 *
 * @throws {UserError} for a row of another form, or one that the chat template refuses.
 */
export function render(row: Record<string, unknown>, tokenizer: Tokenizer, options: RenderOptions): Rendered {
  const fromMessages = !options.usesRejected && row.chosen === undefined && row.messages !== undefined;
  const keys = options.usesRejected
    ? ["chosen", "rejected"] as const
    : [fromMessages ? "messages" : "chosen"] as const;
  for (const key of keys) if (row[key] === undefined || row[key] === null) throw missing(key, row);
  if (typeof row.chosen === "string") {
    const whole = withoutPrompt(row, tokenizer.chatTemplate !== undefined, options.usesRejected);
    return Array.isArray(whole.chosen)
      ? render(whole, tokenizer, options)
      : renderTexts(whole, tokenizer, options.usesRejected);
  }

  return renderMessages(row, keys, tokenizer, options);
}

function renderMessages(
  row: Record<string, unknown>,
  keys: readonly string[],
  tokenizer: Tokenizer,
  { autoInsertEmptySystemMsg, labelGenerationPrompt = true }: RenderOptions,
): Rendered {
  const lists = keys.map((key) => messagesOf(row[key], key));
  const hasPrompt = Array.isArray(row.prompt);
  const prompt = hasPrompt ? messagesOf(row.prompt, "prompt") : lists[0].slice(0, -1);
  const responses = hasPrompt ? lists : lists.map((messages) => messages.slice(-1));
  const template = tokenizer.chatTemplate ?? "";
  const knowsSystem = template.includes("system") || template.includes("<|im_start|>");
  const inserts = autoInsertEmptySystemMsg && knowsSystem && prompt[0]?.role !== "system";
  const given = { tools: listOf(row.tools, "tools"), documents: listOf(row.documents, "documents") };
  const partAfter = (messages: readonly Message[]) =>
    part(
      messages,
      responses,
      (messages, addGenerationPrompt) =>
        tokenizer.applyChatTemplate(messages, { addGenerationPrompt, ...given }),
      labelGenerationPrompt,
    );
  let parted: ReturnType<typeof part>;
  try {
    parted = partAfter(inserts ? [{ role: "system", content: "" }, ...prompt] : prompt);
  } catch (error) {
    if (!(error instanceof UserError) || !inserts || !succeeds(() => partAfter(prompt))) throw error;
    throw new UserError(
      `${error.message} (the first message is the empty system message of auto_insert_empty_system_msg, which ` +
        "--auto_insert_empty_system_msg=false leaves out)",
    );
  }
  const { before, texts, wholes, isOther } = parted;
  const placeOf = (response: number, message: number) => {
    if (message < prompt.length) return `${hasPrompt ? "prompt" : keys[0]}[${message}]`;
    const first = lists[response].length - responses[response].length;
    return `${keys[response]}[${first + message - prompt.length}]`;
  };
  const notices = conversationNotices({ prompt, responses, texts, wholes, keys, placeOf }, tokenizer);
  notices.push(...unusedColumns(given, wholes));
  if (isOther) notices.push({ kind: "otherHeader" });
  // A list of the response alone names no prompt.
  const others = hasPrompt ? [] : lists[1]?.slice(0, -1) ?? [];
  if (others.length > 0 && !isDeepStrictEqual(others, prompt)) notices.push({ kind: "otherPrompt" });
  const [chosen, rejected] = texts;
  return { prompt: before, chosen, ...(rejected !== undefined && { rejected }), notices };
}

function succeeds(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

/**
 * The conversation's text as prompt and responses: the prompt is rendered without a generation prompt if that belongs
 * to the label, or else with one, and the other way (`isOther`) where not every whole begins with that.
 */
function part(
  prompt: readonly Message[],
  responses: readonly (readonly Message[])[],
  text: (messages: readonly Message[], addGenerationPrompt: boolean) => string,
  labelGenerationPrompt: boolean,
) {
  const wholes = responses.map((messages) => text([...prompt, ...messages], false));
  for (const addGenerationPrompt of [!labelGenerationPrompt, labelGenerationPrompt]) {
    const before = text(prompt, addGenerationPrompt);
    if (wholes.every((whole) => whole.startsWith(before))) {
      const texts = wholes.map((whole) => whole.slice(before.length));
      return { before, texts, wholes, isOther: addGenerationPrompt === labelGenerationPrompt };
    }
  }
  const alone = text(prompt, false);
  const whole = wholes.find((whole) => !whole.startsWith(alone))!;
  let same = 0;
  while (same < alone.length && alone[same] === whole[same]) same++;
  throw new UserError(
    "the chat template renders the prompt otherwise when a response follows, so the response cannot be told from it: " +
      `expected ${show(alone.slice(same))} after ${show(alone.slice(Math.max(0, same - 40), same))}, found ${
        show(whole.slice(same))
      }; give another chat_template`,
  );
}

function renderTexts(row: Record<string, unknown>, tokenizer: Tokenizer, usesRejected: boolean): Rendered {
  const read = usesRejected ? ["chosen", "rejected"] as const : ["chosen"] as const;
  for (const key of ["prompt", ...read]) {
    if (row[key] === undefined || row[key] === null) throw missing(key, row);
    if (typeof row[key] !== "string") {
      throw new UserError(
        `${key}: expected text, as chosen is text, found ${
          show(row[key])
        }: a row is either texts or message lists`,
      );
    }
  }
  const { prompt, chosen, rejected } = row as { prompt: string; chosen: string; rejected: string };
  const notices: Notice[] = read.filter((key) => (row[key] as string).trim() === "")
    .map((key) => ({ kind: "emptyResponse", detail: key }));
  if (prompt.trim() === "") notices.unshift({ kind: "emptyPrompt" });
  if (tokenizer.chatTemplate !== undefined) notices.push({ kind: "withoutTemplate" });
  return { prompt, chosen, ...(usesRejected && { rejected }), notices };
}

function missing(key: string, row: Record<string, unknown>): UserError {
  const keys = Object.keys(row).filter((name) => row[name] !== undefined && row[name] !== null);
  const meant = nearest(key, keys);
  const found = keys.length > 0 ? keys.slice(0, 12).map((name) => show(name)).join(", ") : "no keys at all";
  return new UserError(
    `expected a key "${key}", found ${found}${keys.length > 12 ? ", ..." : ""}${
      meant === undefined ? "" : `; did you mean ${show(meant)}?`
    }`,
  );
}
