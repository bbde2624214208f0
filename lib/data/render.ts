import { nearest, UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import type { Message, Tokenizer } from "../tokenizer.ts";
import { withoutPrompt } from "./implicit_prompt.ts";

/** A row as text: the prompt and what may follow it. */
export interface Rendered {
  prompt: string;
  chosen: string;
  rejected?: string;
  /** Responses that hold white space at most; real data have a few, and they are trained on as their end token alone. */
  emptyResponses: ("chosen" | "rejected")[];
}

/** How rows are rendered. */
export interface RenderOptions {
  /** Put an empty system message in front where the chat template knows one and the row has none. */
  autoInsertEmptySystemMsg: boolean;
  /** Whether the loss looks at `rejected`; if not, it is not read, and `messages` may stand for `chosen`. */
  usesRejected: boolean;
}

/**
 * Renders a row of preference data; its shape says how.
 *
 * - Message lists `chosen` and `rejected`, by the rules of the published SimPER trainer: a message list `prompt` is their
 *   prompt; without one (a text `prompt` is not looked at) the prompt is all of chosen but its last message. Prompt and
 *   responses are rendered apart, without a generation prompt, and a BOS that the template puts before a response is cut.
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
      : renderTexts(whole, options.usesRejected);
  }

  const [chosen, rejected] = keys.map((key) => messagesOf(row[key], key));
  let prompt: Message[];
  const responses = { chosen, rejected };
  if (Array.isArray(row.prompt)) {
    prompt = [...messagesOf(row.prompt, "prompt")];
  } else {
    prompt = chosen.slice(0, -1);
    responses.chosen = chosen.slice(-1);
    responses.rejected = rejected?.slice(-1);
  }
  const template = tokenizer.chatTemplate ?? "";
  const knowsSystem = template.includes("system") || template.includes("<|im_start|>");
  if (options.autoInsertEmptySystemMsg && knowsSystem && prompt[0]?.role !== "system") {
    prompt.unshift({ role: "system", content: "" });
  }
  const renderResponse = (messages: Message[]) => {
    const text = tokenizer.applyChatTemplate(messages);
    const bos = tokenizer.bosToken;
    return bos && text.startsWith(bos) ? text.slice(bos.length) : text;
  };
  return {
    prompt: tokenizer.applyChatTemplate(prompt),
    chosen: renderResponse(responses.chosen),
    ...(responses.rejected && { rejected: renderResponse(responses.rejected) }),
    emptyResponses: (["chosen", "rejected"] as const).filter((key) =>
      responses[key]?.every(({ content }) => typeof content === "string" && content.trim() === "")
    ),
  };
}

function renderTexts(row: Record<string, unknown>, usesRejected: boolean): Rendered {
  const read = usesRejected ? ["chosen", "rejected"] as const : ["chosen"] as const;
  for (const key of ["prompt", ...read]) {
    if (row[key] === undefined) throw missing(key, row);
    if (typeof row[key] !== "string") {
      throw new UserError(
        `${key}: expected text, as chosen is text, found ${
          show(row[key])
        }: a row is either texts or message lists`,
      );
    }
  }
  const { prompt, chosen, rejected } = row as { prompt: string; chosen: string; rejected: string };
  return {
    prompt,
    chosen,
    ...(usesRejected && { rejected }),
    emptyResponses: read.filter((key) => (row[key] as string).trim() === ""),
  };
}

function messagesOf(value: unknown, key: string): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(`${key}: expected a list of messages, found ${show(value)}`);
  }
  value.forEach((message, i) => {
    if (!isObject(message)) {
      throw new UserError(
        `${key}[${i}]: expected a message such as {"role": "user", "content": "Hello"}, found ${
          show(message)
        }`,
      );
    }
    for (const part of ["role", "content"]) {
      if (typeof message[part] !== "string") {
        throw new UserError(`${key}[${i}].${part}: expected text, found ${show(message[part])}`);
      }
    }
  });
  return value as Message[];
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
