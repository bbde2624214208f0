/** What a template runs with: variables, output, loops and calls. */
import { atLine, countText, currentLine, TemplateError } from "./limits.ts";
import {
  Callable,
  Described,
  Dict,
  iterate,
  type Keywords,
  lengthOf,
  NO_KEYWORDS,
  Tuple,
  typeError,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";
import { equals } from "./comparison.ts";

/** In place of a variable's value: it has none, and is undefined when it is used. */
export const MISSING = Symbol("missing");
export type Slot = Value | typeof MISSING | undefined;

/** Variables of a call of the template, a macro, a block or a recursive loop. */
export interface Frame {
  slots: Slot[];
  /** That of the code around, whose variables are seen too. */
  outer: Frame | undefined;
  out: Output;
  context: Context;
}

/** What names mean that no code around sets: what the template itself has set, then what it is rendered with. */
export class Context {
  readonly set = new Map<string, Value>();
  constructor(readonly given: ReadonlyMap<string, Value>) {}

  resolve(name: string): Value | typeof MISSING {
    let value = this.set.get(name);
    if (value === undefined) value = this.given.get(name);
    return value === undefined ? MISSING : value;
  }

  /** For a scoped block: what is around it is given to it. */
  derived(locals: Iterable<readonly [string, Slot]>): Context {
    const given = new Map([...this.given, ...this.set]);
    for (const [name, value] of locals) {
      if (value !== MISSING && value !== undefined) given.set(name, value as Value);
    }
    return new Context(given);
  }
}

/** Pieces of text that are joined at times, as a text of millions of pieces takes many times its memory. */
export class Output {
  #text = "";
  #pieces = "";
  #count = 0;

  write(piece: string): void {
    countText(piece.length);
    this.#pieces += piece;
    if (++this.#count < 4096) return;
    // Asking for a character makes V8 join the pieces.
    this.#pieces.charCodeAt(0);
    this.#text += this.#pieces;
    this.#pieces = "";
    this.#count = 0;
  }

  get text(): string {
    return this.#text + this.#pieces;
  }
}

/** What the name `name` gives where it has no value. */
export const undefinedName = (name: string): Undefined => new Undefined(() => `'${name}' is undefined`);

/** callee(*args, **keywords). */
export function call(callee: Value, args: readonly Value[], keywords: Keywords = NO_KEYWORDS): Value {
  const callable = callableOf(callee);
  if (callable) return callable.run(args, keywords);
  if (callee instanceof Undefined) callee.fail();
  throw typeError(`'${typeName(callee)}' object is not callable`);
}

function callableOf(value: Value): Callable | undefined {
  if (value instanceof Callable) return value;
  return value instanceof Described ? value.attribute("__call__") as Callable | undefined : undefined;
}

export const isCallable = (value: Value): boolean =>
  value instanceof Undefined || callableOf(value) !== undefined;

/** `loop`. */
export class Loop extends Described {
  #iterator: Iterator<Value>;
  #index = -1;
  #length: number | undefined;
  #after: Value | undefined;
  #isAtEnd = false;
  #current: Value | undefined;
  #before: Value | undefined;
  #lastChanged: Tuple | undefined;

  /** @param recurse the loop's body for other items, where it is recursive. */
  constructor(
    readonly iterable: Value,
    readonly recurse?: (iterable: Value, depth: number) => string,
    readonly depth = 0,
  ) {
    super();
    this.#iterator = iterate(iterable);
  }

  get type(): string {
    return "LoopContext";
  }

  /** The next item; undefined after the last. */
  next(): Value | undefined {
    const item = this.#peek();
    this.#after = undefined;
    if (item === undefined) return undefined;
    this.#index++;
    this.#before = this.#current;
    this.#current = item;
    return item;
  }

  #peek(): Value | undefined {
    if (this.#after === undefined && !this.#isAtEnd) {
      const next = this.#iterator.next();
      if (next.done) this.#isAtEnd = true;
      else this.#after = next.value;
    }
    return this.#after;
  }

  get #size(): number {
    if (this.#length === undefined) {
      const known = lengthOf(this.iterable);
      if (known !== undefined) this.#length = known;
      else {
        const isPeeked = this.#after !== undefined;
        const rest: Value[] = [];
        for (let next = this.#iterator.next(); !next.done; next = this.#iterator.next()) {
          countText(16);
          rest.push(next.value);
        }
        this.#iterator = rest[Symbol.iterator]();
        this.#length = rest.length + this.#index + 1 + (isPeeked ? 1 : 0);
      }
    }
    return this.#length;
  }

  attribute(name: string): Value | undefined {
    switch (name) {
      case "index":
        return this.#index + 1;
      case "index0":
        return this.#index;
      case "first":
        return this.#index === 0;
      case "last":
        return this.#peek() === undefined;
      case "length":
      case "__len__":
        return this.#size;
      case "revindex":
        return this.#size - this.#index;
      case "revindex0":
        return this.#size - this.#index - 1;
      case "depth":
        return this.depth + 1;
      case "depth0":
        return this.depth;
      case "previtem":
        return this.#index === 0 ? new Undefined(() => "there is no previous item") : this.#before!;
      case "nextitem":
        return this.#peek() ?? new Undefined(() => "there is no next item");
      case "cycle":
        return new Callable((args) => {
          if (args.length === 0) throw typeError("no items for cycling given");
          return args[this.#index % args.length];
        });
      case "changed":
        return new Callable((args) => {
          const value = new Tuple(args);
          const isSame = this.#lastChanged !== undefined && equals(this.#lastChanged, value);
          if (!isSame) this.#lastChanged = value;
          return !isSame;
        });
      case "__iter__":
        return true;
      case "__repr__":
        return `<LoopContext ${this.#index + 1}/${this.#size}>`;
      case "__call__":
        return new Callable(([iterable]) => {
          if (!this.recurse) {
            throw typeError("The loop must have the 'recursive' marker to be called recursively.");
          }
          return this.recurse(iterable, this.depth + 1);
        });
    }
    return undefined;
  }
}

export interface MacroSignature {
  name: string | undefined;
  parameters: readonly string[];
  /** Whether the body asks for them. */
  usesCaller: boolean;
  usesKeywords: boolean;
  usesRest: boolean;
}

/** A macro: hands `run` its parameters, then caller, kwargs and varargs where they are asked for. */
export function macro(
  { name, parameters, usesCaller, usesKeywords, usesRest }: MacroSignature,
  run: (values: Slot[]) => string,
): Callable {
  const invoke = (args: readonly Value[], keywords: Keywords): Value => {
    const values: Slot[] = args.slice(0, parameters.length);
    const left = new Map(keywords);
    let hasCaller = values.length === parameters.length && parameters.includes("caller");
    for (const parameter of parameters.slice(values.length)) {
      values.push(left.has(parameter) ? left.get(parameter)! : MISSING);
      left.delete(parameter);
      if (parameter === "caller") hasCaller = true;
    }
    if (usesCaller && !hasCaller) {
      const caller = left.get("caller") ?? null;
      values.push(caller !== null ? caller : new Undefined(() => "No caller defined"));
      left.delete("caller");
    }
    if (usesKeywords) values.push(Dict.from(left));
    else if (left.size > 0) {
      throw typeError(`macro '${name}' takes no keyword argument '${[...left.keys()][0]}'`);
    }
    if (usesRest) values.push(new Tuple(args.slice(parameters.length)));
    else if (args.length > parameters.length) {
      throw typeError(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
    }
    const line = currentLine();
    const text = run(values);
    atLine(line);
    return text;
  };
  const attributes = {
    name: name ?? null,
    arguments: new Tuple(parameters),
    catch_kwargs: usesKeywords,
    catch_varargs: usesRest,
    caller: usesCaller,
    explicit_caller: parameters.includes("caller"),
  };
  return new Callable(invoke, attributes, `<Macro ${name === undefined ? "anonymous" : `'${name}'`}>`);
}

/** Values of `for a, b in ...`, and of `set a, b = ...`. */
export function unpack(value: Value, count: number): Value[] {
  const items: Value[] = [];
  const iterator = iterate(value);
  for (let next = iterator.next(); !next.done; next = iterator.next()) {
    items.push(next.value);
    if (items.length > count) break;
  }
  if (items.length !== count) {
    const found = items.length > count ? "too many values to unpack" : "not enough values to unpack";
    throw new TemplateError("ValueError", `${found} (expected ${count})`);
  }
  return items;
}
