/** `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them and lm-evaluation-harness asks for them. */
import { boolean } from "../config/values.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import { ApiError } from "./api_error.ts";
import { ofField, type ServerContext } from "./context.ts";
import type { RequestFields } from "./fields.ts";
import type { ServedModel } from "./served_model.ts";

/** Answers `/tokenize`: a text by `prompt`, or a conversation by `messages`. */
export async function tokenize(context: ServerContext, fields: RequestFields): Promise<Response> {
  const { tokenizer, generator } = context.modelOf(fields);
  const { prompt, messages } = fields.json;
  let tokens: number[];
  if (messages !== undefined && prompt === undefined) {
    tokens = await ofField("messages", () => tokenizer.promptIds(messages as Message[]));
  } else {
    if (typeof prompt !== "string") throw ApiError.expected("prompt", "text", prompt);
    const addSpecialTokens = fields.get("add_special_tokens", boolean) ?? true;
    [tokens] = await ofField("prompt", () => tokenizer.idsOf([prompt], "prompt", { addSpecialTokens }));
  }
  return Response.json({ tokens, count: tokens.length, max_model_len: generator.positions });
}

/** Answers `/detokenize`. */
export async function detokenize(context: ServerContext, fields: RequestFields): Promise<Response> {
  const { tokenizer, generator } = context.modelOf(fields);
  const { tokens } = fields.json;
  const isRight = Array.isArray(tokens) &&
    tokens.every((id) => Number.isInteger(id) && id >= 0 && id < generator.vocabSize);
  if (!isRight) {
    throw ApiError.expected("tokens", `a list of token ids from 0 to ${generator.vocabSize - 1}`, tokens);
  }
  const [prompt] = await ofField("tokens", () => tokenizer.texts([tokens], "tokens"));
  return Response.json({ prompt });
}

/** Answers `/tokenizer_info`. */
export function tokenizerInfo({ tokenizer, generator }: ServedModel): Response {
  const { bosToken, eosToken, chatTemplate } = tokenizer.vocabulary;
  return Response.json({
    bos_token: bosToken ?? null,
    eos_token: eosToken ?? null,
    chat_template: chatTemplate ?? null,
    vocab_size: generator.vocabSize,
    model_max_length: generator.positions,
  });
}
