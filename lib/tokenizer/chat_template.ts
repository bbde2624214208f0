import { UserError } from "../errors.ts";
import { isObject, shorten, show } from "../text/json.ts";
import { compileTemplate } from "./jinja/compiler.ts";
import { toPython } from "./jinja/convert.ts";
import { globals } from "./jinja/globals.ts";
import { lex } from "./jinja/lexer.ts";
import { beginCount, currentLine, TemplateSyntaxError, Unsupported } from "./jinja/limits.ts";
import type { Value } from "./jinja/values.ts";

/**
 * One turn of a conversation: its content is text, parts such as {type: "text", text: ...}, or none beside other
 * keys.
 */
export type Message = {
  role: string;
  content?: string | null | readonly Record<string, unknown>[];
  [key: string]: unknown;
};

/**
 * Text of a conversation, as transformers' `apply_chat_template(messages, tokenize=False)`. Numbers of rows without a
 * fraction are ints to the template, as JavaScript does not tell 1 from 1.0.
 *
 * @throws {UserError} without a chat template, with the template's own words where it refuses the messages, and where
 * it asks for something of Python that is not known here.
 */
export type ApplyChatTemplate = (
  messages: readonly Message[],
  options?: {
    addGenerationPrompt?: boolean;
    /** JSON schemas of functions, and texts to answer from: each a list of objects. */
    tools?: unknown;
    documents?: unknown;
  },
) => string;

/**
 * Renders conversations by Jinja text, which may be anybody's: a rendering that takes too many steps or makes too
 * much text is stopped, however its loops are written.
 *
 * @param tokens the special tokens that the template knows by name.
 * @param folder names the model in a message.
 * @param date the time that the template's strftime_now tells, instead of now.
 */
export function chatRenderer(
  template: string | undefined,
  tokens: Record<string, string>,
  folder: string,
  { date }: { date?: Date } = {},
): ApplyChatTemplate {
  let render: ReturnType<typeof compileTemplate> | undefined;
  return (messages, { addGenerationPrompt = false, tools, documents } = {}) => {
    if (template === undefined) {
      throw new UserError(
        `${folder}: this model has no chat template, and the data are message lists: expected chat_template.jinja, ` +
          "or chat_template in tokenizer_config.json, or chat_template in the run file",
      );
    }
    if (messages.length === 0) {
      throw new UserError("expected at least one message before the response, found none");
    }
    render ??= compiled(template);
    beginCount();
    const list = toPython(messages, "messages") as readonly Value[];
    const given = new Map([
      ...globals(date ?? new Date()),
      ...Object.entries(tokens),
      ["tools", objects(tools, "tools")],
      ["documents", objects(documents, "documents")],
      ["add_generation_prompt", addGenerationPrompt],
    ] as [string, Value][]);
    const evaluate = (count: number): string => {
      beginCount();
      return render!(given.set("messages", count === list.length ? list : list.slice(0, count)));
    };
    try {
      return evaluate(list.length);
    } catch (error) {
      if (error instanceof UserError) throw error;
      const refused = messages.findIndex((_, i) => !succeeds(() => evaluate(i + 1)));
      const place = `first at message ${refused + 1} (${
        roleOf(messages[refused])
      }), in its line ${currentLine()}`;
      const roles = shorten(messages.map(roleOf).join(", "));
      throw new UserError(
        error instanceof Unsupported
          ? `the chat template cannot be rendered for the messages with roles ${roles}, ${place}: ${error.message}`
          : `the chat template refuses the messages with roles ${roles}, ${place}: ${wordsOf(error)}`,
      );
    }
  };
}

/** Whether a template writes the time at which it is rendered, so that its text is another one each day. */
export function usesDate(template: string): boolean {
  if (!template.includes("strftime_now")) return false;
  try {
    return lex(template).some(({ type, value }) => type === "name" && value === "strftime_now");
  } catch {
    // What cannot be split into tokens is never rendered.
    return false;
  }
}

function compiled(template: string): ReturnType<typeof compileTemplate> {
  try {
    return compileTemplate(template);
  } catch (error) {
    if (error instanceof Unsupported) {
      throw new UserError(`the chat template cannot be rendered: ${error.message}`);
    }
    const line = error instanceof TemplateSyntaxError ? ` (in its line ${error.line})` : "";
    throw new UserError(`the chat template is not valid Jinja: ${wordsOf(error)}${line}`);
  }
}

/** A list of objects as the template sees it; without one, none. */
function objects(value: unknown, name: string): Value {
  if (value === undefined || value === null) return null;
  if (!Array.isArray(value) || !value.every(isObject)) {
    throw new UserError(`${name}: expected a list of objects for the chat template, found ${show(value)}`);
  }
  return toPython(value, name);
}

const roleOf = ({ role }: Message): string => shorten(typeof role === "string" ? role : show(role));

/** What a template that cannot go on says. A stack that has no more room is a template's own loop or depth. */
function wordsOf(error: unknown): string {
  if (error instanceof RangeError) return "its expressions, macros or lists are too deep within each other";
  return shorten((error as Error).message, 300);
}

function succeeds(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}
