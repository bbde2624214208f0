import { UserError } from "../errors.ts";
import type { Message } from "../tokenizer/chat_template.ts";

/** A turn's mark in a transcript; the text of an empty turn may lack its space. */
const TURN = /\n\n(Human|Assistant):(?: |$|(?=\n\n))/;
const ANSWER = "\n\nAssistant:";

/**
 * A row of texts that lacks `prompt`, with the prompt that its texts imply; any other row as it is.
 *
 * Transcripts (`"\n\nHuman: ...\n\nAssistant: ..."`, Anthropic's hh-rlhf) part at the last "\n\nAssistant:" of what
 * chosen and rejected both begin with, as TRL's scripts for that data do; with `asMessages` they become message
 * lists. Of other texts the common beginning is the prompt, less a space at its end, as TRL's `extract_prompt` has
 * it; one text alone implies none.
 *
 * @param usesRejected whether `rejected` is looked at.
 * @throws {UserError} for transcripts of two conversations.
 */
export function withoutPrompt(
  row: Record<string, unknown>,
  asMessages: boolean,
  usesRejected: boolean,
): Record<string, unknown> {
  const { prompt, chosen } = row;
  const rejected = usesRejected ? row.rejected : row.chosen;
  const isText = typeof chosen === "string" && typeof rejected === "string";
  if (!isText || (prompt !== undefined && prompt !== null)) return row;
  const isTranscript = [chosen, rejected].every((text) =>
    text.startsWith("\n\nHuman:") && text.includes(ANSWER)
  );
  if (isTranscript) return splitTranscripts(chosen, rejected, asMessages);
  if (!usesRejected) return row;
  let length = commonLength(chosen, rejected);
  const shorter = Math.min(chosen.length, rejected.length);
  // TRL leaves something of both responses where one text is how the other begins.
  if (length === shorter) length = Math.max(0, shorter - 1);
  else if (chosen[length - 1] === " ") length--;
  return { prompt: chosen.slice(0, length), chosen: chosen.slice(length), rejected: rejected.slice(length) };
}

function splitTranscripts(chosen: string, rejected: string, asMessages: boolean): Record<string, unknown> {
  const start = chosen.lastIndexOf(ANSWER, commonLength(chosen, rejected) - ANSWER.length);
  if (start < 0) {
    throw new UserError(
      'chosen and rejected: expected transcripts of one conversation, the same up to an "Assistant:", found ' +
        `that they differ before`,
    );
  }
  const length = start + ANSWER.length;
  const prompt = chosen.slice(0, length);
  const responses = [chosen, rejected].map((text) => text.slice(length));
  if (!asMessages) return { prompt, chosen: responses[0], rejected: responses[1] };
  const [answer, other] = responses.map((text) => [
    { role: "assistant", content: text.startsWith(" ") ? text.slice(1) : text },
  ]);
  return { prompt: messagesOf(prompt.slice(0, -ANSWER.length)), chosen: answer, rejected: other };
}

function messagesOf(transcript: string): Message[] {
  const [, ...parts] = transcript.split(TURN);
  return Array.from({ length: parts.length / 2 }, (_, i) => ({
    role: parts[2 * i] === "Human" ? "user" : "assistant",
    content: parts[2 * i + 1],
  }));
}

/** Characters that both texts begin with; no surrogate pair is cut. */
function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  const last = a.charCodeAt(length - 1);
  return last >= 0xd800 && last < 0xdc00 ? length - 1 : length;
}
