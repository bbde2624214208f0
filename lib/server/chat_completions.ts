/** `/v1/chat/completions`: the next turn of a conversation. */
import { boolean, integer } from "../config/values.ts";
import { MOST_TOP } from "../generation/request.ts";
import { isObject } from "../text/json.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { answering, answerRequests, type Asked } from "./answering.ts";
import { ApiError } from "./api_error.ts";
import { checkCharacters } from "./completions.ts";
import { ofField, type ServerContext } from "./context.ts";
import type { RequestFields } from "./fields.ts";
import { chatLogprobs } from "./logprobs.ts";

/** Answers `/v1/chat/completions`. */
export function chatCompletions(
  context: ServerContext,
  fields: RequestFields,
  request: Request,
): Promise<Response> {
  return answering(context, request, fields, () => ask(context, fields));
}

async function ask(context: ServerContext, fields: RequestFields): Promise<Asked> {
  const model = context.modelOf(fields);
  for (const name of ["tools", "functions"]) fields.refuse(name, "answers are text, and call nothing");
  fields.refuse("logit_bias", "answers are drawn by the model's own logits");
  fields.refuse(
    "response_format",
    "answers are text as the model writes it",
    (value) => isObject(value) && value.type === "text",
  );
  const count = integer({ min: 0 });
  const maxTokens = fields.get("max_completion_tokens", count) ?? fields.get("max_tokens", count);
  const hasLogprobs = fields.get("logprobs", boolean) ?? false;
  const top = fields.get("top_logprobs", integer({ min: 0, max: MOST_TOP }));
  if (top !== undefined && top > 0 && !hasLogprobs) {
    throw new ApiError(400, "top_logprobs: expected logprobs: true beside it", { param: "top_logprobs" });
  }
  const messages = messagesOf(fields.json.messages);
  checkCharacters(JSON.stringify(messages).length, model.generator.positions, "messages");
  const ids = await ofField("messages", () => model.tokenizer.promptIds(messages));
  const requests = answerRequests(model, fields, [ids], {
    param: "messages",
    maxTokens,
    top: top ?? 0,
    echo: false,
    continues: false,
  });
  const texts = context.tokenTexts(model);
  const head = {
    id: `chatcmpl-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: model.name,
  };
  return {
    model,
    requests,
    promptTokens: ids.length,
    head: { ...head, object: "chat.completion" },
    async choice(index, { tokens, text, finish }) {
      return {
        index,
        message: { role: "assistant", content: text, refusal: null },
        logprobs: hasLogprobs ? await chatLogprobs(texts, tokens) : null,
        finish_reason: finish,
      };
    },
    streamed: {
      head: { ...head, object: "chat.completion.chunk" },
      begin: (index) => ({
        index,
        delta: { role: "assistant", content: "" },
        logprobs: null,
        finish_reason: null,
      }),
      async choice(index, { token, text, finish }) {
        const logprobs = hasLogprobs && token ? await chatLogprobs(texts, [token]) : null;
        if (text === "" && !finish && !logprobs) return;
        const delta = text === "" && !logprobs ? {} : { content: text };
        return { index, delta, logprobs, finish_reason: finish ?? null };
      },
    },
  };
}

/** OpenAI's other form of a text, which few templates have; joined as vLLM does it. */
const isTextParts = (content: unknown): content is { text: string }[] =>
  Array.isArray(content) && content.length > 0 &&
  content.every((part) => isObject(part) && part.type === "text" && typeof part.text === "string");

/** What is no message the tokenizer's worker tells. */
function messagesOf(value: unknown): Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw ApiError.expected("messages", "a list of messages", value);
  }
  // OpenAI's newer word for it, which no template has.
  return value.map((message) =>
    isObject(message)
      ? {
        ...message,
        ...(message.role === "developer" ? { role: "system" } : {}),
        ...(isTextParts(message.content)
          ? { content: message.content.map(({ text }) => text).join("\n") }
          : {}),
      }
      : message
  );
}
