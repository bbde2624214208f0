import { isObject } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { isEmpty, textsOf } from "./messages.ts";

/** Something about a row that is trained on and may not be meant. */
export interface Notice {
  /** One of `KINDS`, or a clause that says it. */
  kind: string;
  /** What of the row it is about. */
  detail?: string;
}

/** A kind of notice over the rows of a split. */
export interface CountedNotice {
  /** One of the kinds that are known, or a clause that says it. */
  kind: string;
  /** Rows that have it, */
  count: number;
  /** and where the first of them stand. */
  first: { where: string; detail?: string }[];
}

/** What is said of each kind. */
const KINDS: Readonly<Record<string, string>> = {
  emptyPrompt:
    "an empty prompt: the response is trained on without a question; remove the row if that is not meant",
  emptyResponse:
    "an empty response: trained on as what the template puts around it; remove the row if that is not meant",
  withoutTemplate:
    "the model has a chat template, and rows of plain text are trained on without it (as in TRL); to have it " +
    "used, write " +
    '{"prompt": [{"role": "user", "content": "..."}], "chosen": [{"role": "assistant", "content": "..."}], ' +
    '"rejected": ' +
    '[{"role": "assistant", "content": "..."}]}',
  systemInResponse: "a system turn stands inside the response, and is trained on as a part of it",
  droppedTurn: "the chat template leaves out a message or what it calls, or changes its text",
  unusedColumn: "the chat template makes nothing of this column",
  printedParts:
    "the chat template prints the list of a message's parts instead of their text; write its content as text",
  otherEnd:
    "the response ends with another special token than the tokenizer's eos_token, which is put behind it; " +
    "the model may learn to go on after the turn",
  otherPrompt:
    "rejected has other messages before its last one than chosen: those of chosen are taken for both",
  otherHeader:
    "the whole conversation does not begin with the prompt as label_generation_prompt asks for it: the other " +
    "of its two renderings, with and without a generation prompt, is taken",
};

/** A notice in words; a kind of its own is what is said. */
export const describeNotice = (kind: string): string => Object.hasOwn(KINDS, kind) ? KINDS[kind] : kind;

/** A conversation that was rendered. */
export interface Conversation {
  prompt: readonly Message[];
  responses: readonly (readonly Message[])[];
  /** The text of each response, and of the whole up to its end. */
  texts: readonly string[];
  wholes: readonly string[];
  /** The key of each response, and where a message of one's whole stands in the row. */
  keys: readonly string[];
  placeOf(response: number, message: number): string;
}

/** What may not be meant in a conversation. */
export function conversationNotices(conversation: Conversation, tokenizer: Tokenizer): Notice[] {
  const { prompt, responses, texts, wholes, keys, placeOf } = conversation;
  const notices: Notice[] = [];
  if (prompt.every((message) => message.role === "system" || isEmpty(message))) {
    notices.push({ kind: "emptyPrompt" });
  }
  const header = systemHeader(tokenizer);
  responses.forEach((messages, i) => {
    if (messages.every(isEmpty)) notices.push({ kind: "emptyResponse", detail: keys[i] });
    if (header !== undefined && occurrences(texts[i], header) > occurrences(allTexts(messages), header)) {
      notices.push({ kind: "systemInResponse", detail: keys[i] });
    }
    const all = [...prompt, ...messages];
    if (all.some(({ content }) => Array.isArray(content)) && /['"]type['"]: ['"]text['"]/.test(wholes[i])) {
      notices.push({ kind: "printedParts", detail: keys[i] });
    }
    const dropped = droppedMessage(all, wholes[i]);
    if (dropped >= 0) {
      notices.push({ kind: "droppedTurn", detail: `${placeOf(i, dropped)}, role ${all[dropped].role}` });
    }
  });
  return notices;
}

/** The special token that a text ends with, white space aside, where it is another than EOS. */
export function otherEnd(text: string, tokenizer: Tokenizer): string | undefined {
  const end = text.trimEnd().slice(-64).replace(/^[\udc00-\udfff]/, "");
  const last = end === "" ? undefined : tokenizer.encode(end).at(-1);
  return last === undefined || last === tokenizer.eosTokenId ? undefined : specialToken(last, tokenizer);
}

const specials = new WeakMap<Tokenizer, Map<number, string | undefined>>();

/** The text of a special token, which is what decoding can leave out; undefined for another one. */
function specialToken(id: number, tokenizer: Tokenizer): string | undefined {
  const known = specials.get(tokenizer) ?? new Map<number, string | undefined>();
  specials.set(tokenizer, known);
  if (!known.has(id)) {
    const text = tokenizer.decode([id]);
    known.set(
      id,
      text !== "" && tokenizer.decode([id], { skipSpecialTokens: true }) === "" ? text : undefined,
    );
  }
  return known.get(id);
}

/** One notice of each kind: a row counts once. */
export function oneOfEach(notices: readonly Notice[]): Notice[] {
  return [...new Map(notices.toReversed().map((notice) => [notice.kind, notice])).values()].reverse();
}

/**
 * The index of the first message with a text that the rendering has less often than the messages have it, or -1.
 * White space at the ends of a text may go.
 */
function droppedMessage(messages: readonly Message[], whole: string): number {
  const said = messages.map((message) => [...textsOf(message), ...callsOf(message)].map(trimmed));
  const all = said.flat().join("\0");
  return said.findIndex((texts) =>
    texts.some((text) => text !== "" && occurrences(whole, text) < occurrences(all, text))
  );
}

/** The names of the functions that a message calls. */
function callsOf({ tool_calls: calls }: Message): string[] {
  return Array.isArray(calls) ? calls.map(nameOf).filter((name) => name !== undefined) : [];
}

/**
 * The name of a function in a tool or a call of it: `{"type": "function", "function": {"name": ...}}` or `{"name":
 * ...}`.
 */
function nameOf(tool: unknown): string | undefined {
  const described = isObject(tool) && isObject(tool.function) ? tool.function : tool;
  return isObject(described) && typeof described.name === "string" ? described.name : undefined;
}

/**
 * Which of the columns that a template is given leave no trace in any text: no tool its name, and no document a text
 * of its.
 */
export function unusedColumns(
  { tools = [], documents = [] }: Record<"tools" | "documents", Record<string, unknown>[] | undefined>,
  wholes: readonly string[],
): Notice[] {
  const traces = {
    tools: tools.map(nameOf).filter((name) => name !== undefined),
    documents: documents.flatMap((document) => Object.values(document)).filter((value) =>
      typeof value === "string"
    ),
  };
  return Object.entries(traces)
    .filter(([, texts]) =>
      texts.length > 0 && !wholes.some((whole) => texts.some((text) => whole.includes(text)))
    )
    .map(([detail]) => ({ kind: "unusedColumn", detail }));
}

const allTexts = (messages: readonly Message[]) => messages.flatMap(textsOf).join("\0");

const BLANK = /[\s\p{Cc}]/u;

/** Without what Python's or JavaScript's trimming takes. */
function trimmed(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && BLANK.test(text[start])) start++;
  while (end > start && BLANK.test(text[end - 1])) end--;
  return text.slice(start, end);
}

function occurrences(text: string, part: string): number {
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  return count;
}

const headers = new WeakMap<Tokenizer, string | undefined>();

/** What a template writes before the content of a system message, if that has its name. */
function systemHeader(tokenizer: Tokenizer): string | undefined {
  if (!headers.has(tokenizer)) headers.set(tokenizer, findSystemHeader(tokenizer));
  return headers.get(tokenizer);
}

function findSystemHeader({ applyChatTemplate, bosToken = "" }: Tokenizer): string | undefined {
  const mark = "A system message.";
  let text: string;
  try {
    text = applyChatTemplate([{ role: "system", content: mark }, { role: "user", content: "A question." }]);
  } catch {
    // A template that refuses system messages writes none.
    return undefined;
  }
  const at = text.indexOf(mark);
  const header = text.slice(text.startsWith(bosToken) ? bosToken.length : 0, Math.max(0, at)).trim();
  return /sys/i.test(header) ? header : undefined;
}
