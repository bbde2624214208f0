/** What every template knows by name: Jinja's globals and transformers'. */
import { countList, LONGEST_RANGE, TemplateError, Unsupported } from "./limits.ts";
import { indexOf } from "./operators.ts";
import { toText } from "./print.ts";
import { unpack } from "./runtime.ts";
import { strftime } from "./strftime.ts";
import { textArgument } from "./text_methods.ts";
import {
  Callable,
  Described,
  Dict,
  type Keywords,
  listOf,
  Namespace,
  Range,
  Tuple,
  typeError,
  typeName,
  type Value,
} from "./values.ts";

/** Has attributes in Python that are not here. */
const CLASS = undefined;

export function globals(now: Date): Map<string, Value> {
  return new Map<string, Value>([
    ["range", new Callable((args, keywords) => range(args, keywords))],
    ["dict", new Callable(dict, CLASS)],
    [
      "namespace",
      new Callable((args, keywords) => {
        const namespace = new Namespace();
        for (const [key, value] of dict(args, keywords).entries()) {
          if (typeof key !== "string") throw new Unsupported("a namespace with a key that is no text");
          namespace.values.set(key, value);
        }
        return namespace;
      }, CLASS),
    ],
    ["cycler", new Callable((items) => new Cycler(items), CLASS)],
    [
      "joiner",
      new Callable(([separator = ", "]) => {
        let isUsed = false;
        return new Callable(() => {
          const text = isUsed ? separator : "";
          isUsed = true;
          return text;
        }, CLASS);
      }, CLASS),
    ],
    [
      "lipsum",
      new Callable(() => {
        throw new Unsupported("lipsum(), whose text nobody can foresee,");
      }),
    ],
    [
      "raise_exception",
      new Callable((args, keywords) => {
        const message = args[0] ?? keywords.get("message");
        if (args.length + keywords.size !== 1 || message === undefined) {
          throw typeError("raise_exception() takes 1 positional argument");
        }
        throw new TemplateError("TemplateError", toText(message));
      }),
    ],
    [
      "strftime_now",
      new Callable((args, keywords) => {
        const format = args[0] ?? keywords.get("format");
        if (args.length + keywords.size !== 1) throw typeError("strftime_now() takes 1 positional argument");
        return strftime(now, textArgument(format));
      }),
    ],
  ]);
}

function range(args: readonly Value[], keywords: Keywords): Range {
  if (keywords.size > 0) throw typeError("range() takes no keyword arguments");
  if (args.length < 1 || args.length > 3) {
    throw typeError(`range expected 1 to 3 arguments, got ${args.length}`);
  }
  const numbers = args.map((arg) =>
    indexOf(arg, `'${typeName(arg)}' object cannot be interpreted as an integer`)
  );
  const [start, stop, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  if (step === 0) throw new TemplateError("ValueError", "range() arg 3 must not be zero");
  const made = new Range(start, stop, step);
  if (made.length > LONGEST_RANGE) {
    throw new TemplateError(
      "OverflowError",
      `Range too big. The sandbox blocks ranges larger than MAX_RANGE (${LONGEST_RANGE}).`,
    );
  }
  return made;
}

/** dict(mapping or pairs, **keywords). */
function dict(args: readonly Value[], keywords: Keywords): Dict {
  if (args.length > 1) throw typeError(`dict expected at most 1 argument, got ${args.length}`);
  const made = new Dict();
  const [from] = args;
  if (from instanceof Dict) { for (const [key, value] of from.entries()) made.set(key, value); }
  else if (from !== undefined) {
    for (const pair of listOf(from)) {
      const [key, value] = unpack(pair, 2);
      made.set(key, value);
    }
  }
  for (const [key, value] of keywords) made.set(key, value);
  return made;
}

class Cycler extends Described {
  #at = 0;

  constructor(readonly items: readonly Value[]) {
    super();
    if (items.length === 0) throw new TemplateError("RuntimeError", "at least one item has to be provided");
    countList(items.length);
  }

  get type(): string {
    return "Cycler";
  }

  attribute(name: string): Value | undefined {
    switch (name) {
      case "current":
        return this.items[this.#at];
      case "next":
        return new Callable(() => {
          const item = this.items[this.#at];
          this.#at = (this.#at + 1) % this.items.length;
          return item;
        });
      case "reset":
        return new Callable(() => {
          this.#at = 0;
          return null;
        });
      case "items":
        return new Tuple(this.items);
      case "pos":
        return this.#at;
    }
    return undefined;
  }
}
