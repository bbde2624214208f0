/** `/v1/completions`: what goes on from a text, or from tokens. */
import { boolean, integer } from "../config/values.ts";
import { MOST_TOP } from "../generation/request.ts";
import { answering, answerRequests, type Asked } from "./answering.ts";
import { ApiError } from "./api_error.ts";
import { ofField, type ServerContext } from "./context.ts";
import type { RequestFields } from "./fields.ts";
import { completionLogprobs } from "./logprobs.ts";
import type { ServedModel } from "./served_model.ts";

/** OpenAI's, where a request does not say how many. */
const MAX_TOKENS = 16;
/** No token has more characters than so many; a longer text is refused before it takes time. */
export const LONGEST_TOKEN = 128;

/** Answers `/v1/completions`. */
export function completions(
  context: ServerContext,
  fields: RequestFields,
  request: Request,
): Promise<Response> {
  return answering(context, request, fields, () => ask(context, fields));
}

async function ask(context: ServerContext, fields: RequestFields): Promise<Asked> {
  const model = context.modelOf(fields);
  fields.refuse("suffix", "the model goes on from the end of a text");
  fields.refuse("logit_bias", "answers are drawn by the model's own logits");
  fields.refuse(
    "best_of",
    "answers are not ranked; n gives several",
    (value) => value === (fields.json.n ?? 1),
  );
  const maxTokens = fields.get("max_tokens", integer({ min: 0 })) ?? MAX_TOKENS;
  const echo = fields.get("echo", boolean) ?? false;
  // true and false are chat's.
  const logprobs = fields.json.logprobs === false
    ? undefined
    : fields.get("logprobs", integer({ min: 0, max: MOST_TOP }));
  const prompts = await promptsOf(model, fields);
  const hasLogprobs = logprobs !== undefined;
  const requests = answerRequests(model, fields, prompts.map(({ ids }) => ids), {
    param: "prompt",
    maxTokens,
    top: logprobs ?? 0,
    // Of a prompt without figures the text is all that is told.
    echo: echo && hasLogprobs,
    continues: true,
  });
  const n = requests.length / prompts.length;
  const promptOf = async (index: number) => {
    const { ids, text } = prompts[Math.floor(index / n)];
    return { ids, text: echo ? text ?? (await model.tokenizer.texts([[...ids]], "prompt"))[0] : "" };
  };
  const texts = context.tokenTexts(model);
  const head = {
    id: `cmpl-${crypto.randomUUID()}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: model.name,
  };
  /** Characters of the tokens of each choice that were told. */
  const offsets: number[] = [];
  return {
    model,
    requests,
    promptTokens: prompts.reduce((sum, { ids }) => sum + ids.length, 0),
    head,
    async choice(index, { prompt, tokens, text, finish }) {
      const before = await promptOf(index);
      return {
        index,
        text: before.text + text,
        logprobs: hasLogprobs
          ? await completionLogprobs(texts, [...prompt, ...tokens], {
            first: echo ? before.ids[0] : undefined,
            offset: 0,
          })
          : null,
        finish_reason: finish,
      };
    },
    streamed: {
      head,
      async choice(index, { prompt, token, text, finish }) {
        const isFirst = offsets[index] === undefined;
        const before = isFirst ? await promptOf(index) : undefined;
        offsets[index] ??= 0;
        const told = [...prompt ?? [], ...token ? [token] : []];
        const first = echo && before ? before.ids[0] : undefined;
        const found = hasLogprobs
          ? await completionLogprobs(texts, told, { first, offset: offsets[index] })
          : null;
        offsets[index] += found?.tokens.join("").length ?? 0;
        const piece = (before?.text ?? "") + text;
        if (piece === "" && !finish && !found?.tokens.length) return;
        return { index, text: piece, logprobs: found, finish_reason: finish ?? null };
      },
    },
  };
}

interface Prompt {
  ids: readonly number[];
  /** As it was given; of tokens there is none. */
  text?: string;
}

async function promptsOf({ tokenizer, generator }: ServedModel, fields: RequestFields): Promise<Prompt[]> {
  const { prompt } = fields.json;
  const given: unknown[] = Array.isArray(prompt) && typeof prompt[0] !== "number" ? prompt : [prompt];
  if (given.length > 0 && given.every((item) => typeof item === "string")) {
    const longest = Math.max(...given.map(({ length }) => length));
    checkCharacters(longest, generator.positions, "prompt");
    const addSpecialTokens = fields.get("add_special_tokens", boolean) ?? true;
    const lists = await ofField("prompt", () => tokenizer.idsOf(given, "prompt", { addSpecialTokens }));
    return lists.map((ids, i) => ({ ids, text: given[i] }));
  }
  const isIds = (item: unknown): item is number[] =>
    Array.isArray(item) && item.every((id) => typeof id === "number");
  if (given.length > 0 && given.every(isIds)) return given.map((ids) => ({ ids }));
  throw ApiError.expected("prompt", "a text, token ids, or a list of texts or of lists of token ids", prompt);
}

/** @throws {ApiError} for a text that cannot be within the context, however it is tokenized. */
export function checkCharacters(characters: number, positions: number, param: string): void {
  if (characters <= positions * LONGEST_TOKEN) return;
  throw new ApiError(
    400,
    `the context of this model has ${positions} tokens, and the prompt has ${characters} characters, which are more`,
    { param, code: "context_length_exceeded" },
  );
}
