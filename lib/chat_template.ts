import { Environment, Interpreter, Template } from "npm:@huggingface/jinja@^0.5.11";
import { UserError } from "./errors.ts";
import { shorten } from "./json.ts";

/** One turn of a conversation; a chat template may read more keys. */
export interface Message {
  role: string;
  content: string;
}

/**
 * Text of a conversation, as transformers' `apply_chat_template(messages, tokenize=False)`. One difference: where a template
 * trims a message, U+FEFF at its ends goes, and U+001C to U+001F and U+0085 stay, as in JavaScript.
 *
 * @throws {UserError} without a chat template, and with the template's own words where it refuses the messages.
 */
export type ApplyChatTemplate = (
  messages: readonly Message[],
  options?: { addGenerationPrompt?: boolean },
) => string;

/** Steps of one rendering; a conversation of 200 messages with 1,000 words each takes about a tenth of them. */
const MOST_STEPS = 10_000_000;
/** Characters of one text in a rendering, and numbers of one range(). */
const LONGEST_TEXT = 2 ** 24;
const LONGEST_RANGE = 100_000;

/**
 * Renders conversations by Jinja text, which may be anybody's: a rendering that takes too many steps or makes too long a text
 * is stopped, however its loops are written.
 *
 * @param tokens the special tokens that the template knows by name.
 * @param folder names the model in a message.
 */
export function chatRenderer(
  template: string | undefined,
  tokens: Record<string, string>,
  folder: string,
  _options: { date?: Date } = {},
): ApplyChatTemplate {
  let compiled: Template | undefined;
  return (messages, { addGenerationPrompt = false } = {}) => {
    if (template === undefined) {
      throw new UserError(
        `${folder}: this model has no chat template, and the data are message lists: expected chat_template.jinja, ` +
          "or chat_template in tokenizer_config.json, or chat_template in the run file",
      );
    }
    if (messages.length === 0) {
      throw new UserError("expected at least one message before the response, found none");
    }
    try {
      compiled ??= new Template(template);
    } catch (error) {
      throw new UserError(`the chat template is not valid Jinja: ${shorten((error as Error).message, 300)}`);
    }
    const valuesOf = (count: number) => ({
      ...tokens,
      messages: messages.slice(0, count),
      tools: null,
      documents: null,
      add_generation_prompt: addGenerationPrompt,
    });
    try {
      return evaluate(compiled, valuesOf(messages.length));
    } catch (error) {
      if (error instanceof UserError) throw error;
      const refused = messages.findIndex((_, i) => !succeeds(() => evaluate(compiled!, valuesOf(i + 1))));
      const line = failingLine(template, valuesOf(refused + 1));
      throw new UserError(
        `the chat template refuses the messages with roles ${
          shorten(messages.map(({ role }) => role).join(", "))
        }, ` +
          `first at message ${refused + 1} (${shorten(messages[refused].role)})${
            line === undefined ? "" : `, in its line ${line}`
          }: ${shorten((error as Error).message, 300)}`,
      );
    }
  };
}

/** The line of a template's tag that fails: each tag is made to tell when it is come to. */
function failingLine(template: string, values: Record<string, unknown>): number | undefined {
  let line: number | undefined;
  const telling = template.replace(
    /\{[{%]/g,
    (tag, offset) => `{{ tell_line(${template.slice(0, offset).split("\n").length}) }}${tag}`,
  );
  const tell_line = (number: number) => {
    line = number;
    return "";
  };
  return succeeds(() => evaluate(new Template(telling), { ...values, tell_line })) ? undefined : line;
}

function succeeds(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

/** `template.render(values)` within bounds. */
function evaluate({ parsed }: Template, values: Record<string, unknown>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...GLOBALS, ...values })) environment.set(name, value);
  return String(new BoundedInterpreter(environment).run(parsed).value);
}

class BoundedInterpreter extends Interpreter {
  #steps = 0;

  override evaluate(
    ...[node, scope]: Parameters<Interpreter["evaluate"]>
  ): ReturnType<Interpreter["evaluate"]> {
    this.#count(1);
    const result = super.evaluate(node, scope);
    const { value } = result as { value: unknown };
    // What is built takes time and memory too, and a list is mostly built to go through it.
    if (typeof value === "string") {
      if (value.length > LONGEST_TEXT) throw tooMuch(`makes a text of ${value.length} characters`);
      this.#count(value.length / 16);
    } else if (Array.isArray(value)) {
      const isBuilt = node?.type !== "Identifier" && node?.type !== "MemberExpression";
      this.#count(isBuilt ? 16 * value.length : value.length / 16);
    }
    return result;
  }

  #count(steps: number): void {
    this.#steps += steps;
    if (this.#steps > MOST_STEPS) throw tooMuch(`takes more than ${MOST_STEPS} steps for one conversation`);
  }
}

const tooMuch = (what: string) =>
  new UserError(`the chat template ${what}, so it was stopped: its loops do not end in a reasonable time`);

/** What Jinja and transformers give every template. */
const GLOBALS = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
  range: (...bounds: number[]) => {
    const [start, stop, step = 1] = bounds.length === 1 ? [0, bounds[0]] : bounds;
    if (step === 0) throw new Error("range() step must not be zero");
    const length = Math.max(0, Math.ceil((stop - start) / step)) || 0;
    if (length > LONGEST_RANGE) throw tooMuch(`makes a range of ${length} numbers`);
    return Array.from({ length }, (_, i) => start + i * step);
  },
  strftime_now: (format: string) => formatDate(new Date(), format),
};

/** Python's strftime for the parts of a date that templates write. */
function formatDate(date: Date, format: string): string {
  const part = (options: Intl.DateTimeFormatOptions) => date.toLocaleDateString("en-US", options);
  const two = (value: number) => String(value).padStart(2, "0");
  const parts: Record<string, () => string> = {
    Y: () => String(date.getFullYear()),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    H: () => two(date.getHours()),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    b: () => part({ month: "short" }),
    B: () => part({ month: "long" }),
    a: () => part({ weekday: "short" }),
    A: () => part({ weekday: "long" }),
    "%": () => "%",
  };
  return format.replace(/%(.)/g, (text, letter) => parts[letter]?.() ?? text);
}
