/** How the variables of a place are begun, set, read and ended. */
import type { Code } from "./code.ts";
import { type Evaluate, slotReader } from "./expressions.ts";
import { TemplateError } from "./limits.ts";
import { childrenOf, type Node, type Target } from "./nodes.ts";
import { type Frame, MISSING, type Slot, undefinedName, unpack } from "./runtime.ts";
import { Namespace, Tuple, type Value } from "./values.ts";

/** What begins a frame's variables. */
export function enterer(code: Code): (frame: Frame) => void {
  const loads = [...code.symbols.loads].flatMap(([variable, load]) => {
    if (load.kind === "parameter") return [];
    const { index } = code.slotOf(variable);
    if (load.kind === "undefined") return [(frame: Frame) => void (frame.slots[index] = MISSING)];
    if (load.kind === "resolve") {
      const { name } = load;
      return [(frame: Frame) => void (frame.slots[index] = frame.context.resolve(name))];
    }
    const read = slotReader(code, load.variable);
    return [(frame: Frame) => void (frame.slots[index] = read(frame))];
  });
  if (loads.length === 0) return () => {};
  return (frame) => {
    for (const load of loads) load(frame);
  };
}

/** What ends them: a macro that was made there sees them as undefined. */
export function leaver(code: Code): (frame: Frame) => void {
  const slots = [...code.symbols.loads.keys()].map((variable) => code.slotOf(variable).index);
  return (frame) => {
    for (const slot of slots) frame.slots[slot] = MISSING;
  };
}

/** Sets a name; one that is set at the top is the template's own for its macros and blocks. */
export function storer(name: string, code: Code, line: number): (frame: Frame, value: Value) => void {
  const { hops, index } = code.slotOf(code.symbols.reference(name, line));
  if (hops > 0) throw new Error(`${name} is set in another function`);
  const { isTop } = code;
  return (frame, value) => {
    frame.slots[index] = value;
    if (isTop) frame.context.set.set(name, value);
  };
}

export function assigner(target: Target, code: Code): (frame: Frame, value: Value) => void {
  if (target.type === "Name") return storer(target.name, code, target.line);
  if (target.type === "Namespace") {
    const read = slotReader(code, code.symbols.reference(target.name, target.line));
    return (frame, value) => {
      const namespace = read(frame);
      if (!(namespace instanceof Namespace)) throw noNamespace();
      namespace.values.set(target.attribute, value);
    };
  }
  const items = target.items.map((item) => assigner(item as Target, code));
  return (frame, value) => unpack(value, items.length).forEach((part, i) => items[i](frame, part));
}

export const noNamespace = () =>
  new TemplateError("TemplateRuntimeError", "cannot assign attribute on non-namespace object");

function* namespacesWithin(node: Node): Generator<{ name: string; line: number }> {
  if (node.type === "Namespace") yield node;
  for (const child of childrenOf(node)) yield* namespacesWithin(child);
}
export const namespacesOf = (target: Target) => [...namespacesWithin(target)];

/** The value of a target: a tuple of its names, whatever was unpacked. */
export function reader(target: Target, code: Code): Evaluate {
  if (target.type === "Tuple") {
    const items = target.items.map((item) => reader(item as Target, code));
    return (frame) => new Tuple(items.map((item) => item(frame)));
  }
  const read = slotReader(code, code.symbols.reference(target.name, target.line));
  return (frame) => {
    const value: Slot = read(frame);
    return value === MISSING || value === undefined ? undefinedName(target.name) : value;
  };
}
