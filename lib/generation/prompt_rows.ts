/** Prompts of data files. */
import { messagesOf } from "../data/messages.ts";
import { readRows } from "../data/read.ts";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";

/** A prompt, and where it stands. */
export interface PromptRow {
  prompt: string | readonly Message[];
  where: string;
}

/**
 * Prompts of a file of rows, in any format that training reads: the column `prompt`, a text or messages, or without
 * it `messages`, of which an answer that ends them is left out.
 *
 * @throws {UserError} for the first row that has none.
 */
export async function readPrompts(file: string): Promise<PromptRow[]> {
  const prompts: PromptRow[] = [];
  for await (const { row, where } of readRows(file)) {
    try {
      prompts.push({ prompt: promptOf(row), where });
    } catch (error) {
      if (error instanceof UserError) throw new UserError(`${where}: ${error.message}`, 1, "DATA_INVALID");
      throw error;
    }
  }
  if (prompts.length === 0) {
    throw new UserError(`${file}: expected rows with prompts, found none`, 1, "DATA_INVALID");
  }
  return prompts;
}

function promptOf({ prompt, messages }: Record<string, unknown>): PromptRow["prompt"] {
  if (typeof prompt === "string") return prompt;
  if (prompt !== undefined && prompt !== null) return messagesOf(prompt, "prompt");
  if (messages === undefined || messages === null) {
    throw new UserError(`expected "prompt", a text or messages, or "messages", found ${show(prompt)}`);
  }
  const list = messagesOf(messages, "messages");
  const asked = list.at(-1)!.role === "assistant" ? list.slice(0, -1) : list;
  if (asked.length === 0) throw new UserError("messages: expected a message before the answer, found none");
  return asked;
}

/** A prompt with a system message before it, unless it begins with one. */
export function withSystem(prompt: PromptRow["prompt"], system: string | undefined): PromptRow["prompt"] {
  if (system === undefined) return prompt;
  const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt;
  return messages[0]?.role === "system" ? messages : [{ role: "system", content: system }, ...messages];
}
