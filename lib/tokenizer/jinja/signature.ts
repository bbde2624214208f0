/** Functions with Python's parameters: by place or by name, with defaults. */
import { TemplateError } from "./limits.ts";
import { isTrue, type Keywords, typeError, type Value } from "./values.ts";

/** A filter, test or method: what it is of, and its arguments. */
export type Builtin = (self: Value, args: readonly Value[], keywords: Keywords) => Value;

/**
 * @param parameters names apart by spaces, `?` behind one that may be left out, `/` at the end where none is given by
 * name.
 * @param run is given undefined for what is left out.
 */
export function define<Self = Value>(
  parameters: string,
  run: (self: Self, ...args: (Value | undefined)[]) => Value,
): Builtin {
  const words = parameters.split(" ").filter((word) => word !== "");
  const isByPlace = words.at(-1) === "/";
  if (isByPlace) words.pop();
  const names = words.map((word) => word.replace("?", ""));
  const required = words.filter((word) => !word.endsWith("?")).length;
  return (self, args, keywords) => {
    if (args.length === 0 && keywords.size === 0 && required === 0) return run(self as Self);
    if (args.length > names.length) {
      throw typeError(`expected at most ${names.length} arguments, got ${args.length}`);
    }
    const bound: (Value | undefined)[] = [...args];
    for (const [name, value] of keywords) {
      const place = isByPlace ? -1 : names.indexOf(name);
      if (place < 0) throw typeError(`got an unexpected keyword argument '${name}'`);
      if (bound[place] !== undefined) throw typeError(`got multiple values for argument '${name}'`);
      bound[place] = value;
    }
    for (let i = 0; i < required; i++) {
      if (bound[i] === undefined) throw typeError(`missing a required argument: '${names[i]}'`);
    }
    return run(self as Self, ...bound);
  };
}

/** An argument that is true or false; false where it is left out. */
export const flag = (value: Value | undefined) => value !== undefined && isTrue(value);

export const argumentError = (message: string) => new TemplateError("FilterArgumentError", message);
