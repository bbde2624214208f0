/** What the files of a model call its parameters. */
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { TensorInfo } from "../safetensors/header.ts";

/** Where transformers finds parameters. */
export interface Places {
  /** What names outside the head begin with in its class. */
  base: string;
  /** What they may begin with in files instead. */
  prefixes: readonly string[];
  /** And the head's names. */
  headPrefixes: readonly string[];
  /** Other names of parameters of the head. */
  otherNames?: Readonly<Record<string, string>>;
}

/**
 * The names that the files have for parameters; those that are not found have none.
 * @throws {UserError} where two have a claim to one.
 */
export function findNames(
  tensors: ReadonlyMap<string, TensorInfo>,
  parameters: readonly string[],
  { base, prefixes, headPrefixes, otherNames = {} }: Places,
  folder: string,
): { names: Map<string, string>; prefix?: string } {
  const ambiguous = (one: string, other: string) =>
    new UserError(
      `${folder}: ${show(one)} and ${
        show(other)
      } are both there, and either may be the one that is meant: remove one`,
    );
  const suffixes = parameters.filter((name) => name.startsWith(base)).map((name) => name.slice(base.length));
  const layers = suffixes.filter((suffix) => /\.\d+\./.test(suffix));
  const count = (prefix: string) => layers.filter((suffix) => tensors.has(prefix + suffix)).length;
  let prefix: string | undefined;
  if (prefixes.every((prefix) => count(prefix) === 0)) {
    const candidates = [...tensors.keys()].filter((name) => name.endsWith(`.${layers[0]}`))
      .map((name) => name.slice(0, -layers[0].length))
      .map((prefix) => ({ prefix, found: count(prefix) }));
    const most = Math.max(...candidates.map(({ found }) => found));
    const [one, other] = candidates.filter(({ found }) => found === most);
    if (other !== undefined) throw ambiguous(one.prefix + layers[0], other.prefix + layers[0]);
    prefix = one?.prefix;
  }
  const names = new Map<string, string>();
  const find = (parameter: string, suffix: string, prefixes: readonly string[], another?: string) => {
    const candidates = [...prefixes.map((prefix) => prefix + suffix), ...(another ? [another] : [])];
    const [one, other] = candidates.filter((name) => tensors.has(name));
    if (other !== undefined) throw ambiguous(one, other);
    if (one !== undefined) names.set(parameter, one);
  };
  for (const suffix of suffixes) find(base + suffix, suffix, prefix === undefined ? prefixes : [prefix]);
  const around = [...new Set([...headPrefixes, ...(prefix === undefined ? [] : outer(prefix))])];
  for (const name of parameters.filter((name) => !name.startsWith(base))) {
    find(name, name, around, otherNames[name]);
  }
  return { names, prefix };
}

/** A prefix and those of the modules around it, as the head lies in one of them: "a.b." gives "a.b.", "a." and "". */
function outer(prefix: string): string[] {
  const modules = prefix.split(".").slice(0, -1);
  return modules.map((_, i) => `${modules.slice(0, i + 1).join(".")}.`);
}
