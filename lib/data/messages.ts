import { parseJson } from "./python_json.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";

/**
 * Checks a message list and gives it as it is: what it holds beside role and content is the template's to read, and a
 * key that is null stays one, as Python's `apply_chat_template` has it.
 *
 * @param key names the list in messages.
 * @throws {UserError} for what is no message, and for content that no text can be made of.
 */
export function messagesOf(value: unknown, key: string): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(`${key}: expected a list of messages, found ${show(value)}`);
  }
  value.forEach((message, i) => checkMessage(message, `${key}[${i}]`));
  return value as Message[];
}

/** The texts of a message: its content, or that of each of its parts. */
export function textsOf({ content }: Message): string[] {
  if (typeof content === "string") return [content];
  return content?.map(({ text }) => text as string) ?? [];
}

/** Whether a message says nothing: no text but white space, and nothing beside it. */
export const isEmpty = (message: Message): boolean =>
  textsOf(message).every((text) => text.trim() === "") && !saysMore(message);

/**
 * The column `tools` or `documents`: a list of objects, or JSON text of one, as data sets hold them whose rows differ
 * in form.
 *
 * @returns undefined where the row has none.
 */
export function listOf(value: unknown, key: string): Record<string, unknown>[] | undefined {
  if (value === undefined || value === null) return undefined;
  let list: unknown = value;
  if (typeof value === "string") {
    try {
      list = parseJson(value);
    } catch (error) {
      throw new UserError(`${key}: expected a list, or JSON text of one: ${(error as Error).message}`);
    }
    if (list === null) return undefined;
  }
  if (Array.isArray(list) && list.every(isObject)) return list;
  throw new UserError(`${key}: expected a list of objects, or JSON text of one, found ${show(list)}`);
}

function checkMessage(message: unknown, place: string): void {
  if (!isObject(message)) {
    throw new UserError(
      `${place}: expected a message such as {"role": "user", "content": "Hello"}, found ${show(message)}`,
    );
  }
  const { role, content } = message;
  if (typeof role !== "string") throw new UserError(`${place}.role: expected text, found ${show(role)}`);
  if (Array.isArray(content)) content.forEach((part, i) => checkPart(part, `${place}.content[${i}]`));
  else if (content === undefined || content === null) {
    if (!saysMore(message)) {
      throw new UserError(
        `${place}.content: expected text, found ${
          show(content)
        }: only a message with tool calls or the like goes without`,
      );
    }
  } else if (typeof content !== "string") {
    throw new UserError(`${place}.content: expected text, found ${show(content)}`);
  }
}

function checkPart(part: unknown, place: string): void {
  if (!isObject(part)) {
    throw new UserError(
      `${place}: expected a part such as {"type": "text", "text": "Hello"}, found ${show(part)}`,
    );
  }
  if (part.type !== "text") {
    throw new UserError(
      `${place}.type: expected "text", found ${
        show(part.type)
      }: models of text are trained here, so take out what is none`,
    );
  }
  if (typeof part.text !== "string") {
    throw new UserError(`${place}.text: expected text, found ${show(part.text)}`);
  }
}

/** Whether a message has something beside its content: tool calls, reasoning, and what templates may come to know. */
function saysMore(message: Record<string, unknown>): boolean {
  return Object.entries(message).some(([key, value]) =>
    !["role", "content", "name"].includes(key) && value !== undefined && value !== null && value !== "" &&
    !(Array.isArray(value) && value.length === 0)
  );
}
