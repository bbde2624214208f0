/** Makes a function of each expression: nothing of the tree is looked at when a conversation is rendered. */
import { getAttribute, getItem, hasMethod } from "./attributes.ts";
import type { Code } from "./code.ts";
import { FILTERS, TESTS } from "./filters.ts";
import { countList, countText, TemplateError, TemplateSyntaxError, Unsupported } from "./limits.ts";
import type { Arguments, Expression } from "./nodes.ts";
import { type Operator, signed } from "./numbers.ts";
import { operate, slice } from "./operators.ts";
import { toText } from "./print.ts";
import { call, type Frame, MISSING, type Slot, undefinedName } from "./runtime.ts";
import { contains, equals, inOrder, type Order } from "./comparison.ts";
import {
  Dict,
  isTrue,
  type Keywords,
  listOf,
  NO_KEYWORDS,
  Tuple,
  typeError,
  Undefined,
  type Value,
} from "./values.ts";

export type Evaluate = (frame: Frame) => Value;

/** Reads a variable as it is. */
export function slotReader(code: Code, variable: string): (frame: Frame) => Slot {
  const { hops, index } = code.slotOf(variable);
  if (hops === 0) return (frame) => frame.slots[index];
  if (hops === 1) return (frame) => frame.outer!.slots[index];
  return (frame) => {
    for (let i = 0; i < hops; i++) frame = frame.outer!;
    return frame.slots[index];
  };
}

export function compile(node: Expression, code: Code): Evaluate {
  code.weight++;
  switch (node.type) {
    case "Constant": {
      const { value } = node;
      return () => value;
    }
    case "Name":
      return readName(node.name, code, node.line);
    case "Tuple": {
      const items = node.items.map((item) => compile(item, code));
      return (frame) => new Tuple(items.map((item) => item(frame)));
    }
    case "List": {
      const items = node.items.map((item) => compile(item, code));
      return (frame) => {
        countList(items.length);
        return items.map((item) => item(frame));
      };
    }
    case "Dict": {
      const keys = node.keys.map((key) => compile(key, code));
      const values = node.values.map((value) => compile(value, code));
      return (frame) => Dict.from(keys.map((key, i) => [key(frame), values[i](frame)] as const));
    }
    case "Condition": {
      const soft = code.soft();
      const then = compile(node.then, soft);
      const test = compile(node.test, soft);
      const otherwise = node.otherwise && compile(node.otherwise, soft);
      code.weight = soft.weight;
      const hint = () =>
        `the inline if-expression on line ${node.line} evaluated to false and no else section was defined.`;
      return (frame) =>
        isTrue(test(frame)) ? then(frame) : otherwise ? otherwise(frame) : new Undefined(hint);
    }
    case "Binary":
      return binary(node.operator, compile(node.left, code), compile(node.right, code));
    case "Unary": {
      const operand = compile(node.operand, code);
      const { operator } = node;
      if (operator === "not") return (frame) => !isTrue(operand(frame));
      return (frame) => signed(operand(frame), operator);
    }
    case "Concat": {
      const items = node.items.map((item) => compile(item, code));
      return (frame) => {
        let text = "";
        for (const item of items) text += toText(item(frame));
        countText(text.length);
        return text;
      };
    }
    case "Compare": {
      const first = compile(node.first, code);
      const rest = node.rest.map(({ operator, operand }) => ({
        compare: comparison(operator),
        operand: compile(operand, code),
      }));
      if (rest.length === 1) {
        const [{ compare, operand }] = rest;
        return (frame) => compare(first(frame), operand(frame));
      }
      return (frame) => {
        let left = first(frame);
        for (const { compare, operand } of rest) {
          const right = operand(frame);
          if (!compare(left, right)) return false;
          left = right;
        }
        return true;
      };
    }
    case "Attribute": {
      const of = compile(node.of, code);
      const { name } = node;
      const isKey = !name.startsWith("__") && !hasMethod("dict", name);
      return (frame) => {
        const value = of(frame);
        if (isKey && value instanceof Dict) {
          const found = value.get(name);
          if (found !== undefined) return found;
        }
        return getAttribute(value, name);
      };
    }
    case "Item": {
      const of = compile(node.of, code);
      const item = compile(node.item, code);
      return (frame) => getItem(of(frame), item(frame));
    }
    case "Slice": {
      const of = compile(node.of, code);
      const [start, stop, step] = [node.start, node.stop, node.step].map((part) =>
        part ? compile(part, code) : () => null
      );
      return (frame) => slice(of(frame), start(frame), stop(frame), step(frame));
    }
    case "Call": {
      const callee = compile(node.callee, code);
      const args = compileArguments(node, code);
      return (frame) => {
        const callable = callee(frame);
        return call(callable, args.places(frame), args.keywords(frame));
      };
    }
    case "Filter": {
      if (!node.value) throw new Error("a filter block hands its text to compileFilter");
      return compileFilter(node, compile(node.value, code), code);
    }
    case "Test": {
      const value = compile(node.value, code);
      const args = compileArguments(node, code);
      const test = Object.hasOwn(TESTS, node.name)
        ? TESTS[node.name]
        : noSuch("test", node.name, code, node.line);
      return (frame) => test(value(frame), args.places(frame), args.keywords(frame));
    }
    case "Namespace":
      throw new TemplateSyntaxError("an attribute of a namespace as value", node.line);
  }
}

export function compileFilter(
  node: Arguments & { name: string; line: number },
  value: Evaluate,
  code: Code,
): Evaluate {
  const args = compileArguments(node, code);
  const filter = Object.hasOwn(FILTERS, node.name)
    ? FILTERS[node.name]
    : noSuch("filter", node.name, code, node.line);
  return (frame) => filter(value(frame), args.places(frame), args.keywords(frame));
}

/** In a branch that may not be taken, Jinja says so only when it is. */
function noSuch(what: string, name: string, code: Code, line: number): () => never {
  if (!code.isSoft) throw new TemplateSyntaxError(`No ${what} named '${name}'.`, line);
  return () => {
    throw new TemplateError("TemplateRuntimeError", `No ${what} named '${name}' found.`);
  };
}

function readName(name: string, code: Code, line: number): Evaluate {
  const variable = code.symbols.reference(name, line);
  const read = slotReader(code, variable);
  const isAlwaysSet = code.symbols.loadOf(variable)?.kind === "parameter" && !code.isDefault;
  return (frame) => {
    const value = read(frame);
    if (value === MISSING) {
      // Python writes an object of Jinja's own there.
      if (isAlwaysSet) throw new Unsupported(`the variable ${name} of a loop that has ended`);
      return undefinedName(name);
    }
    if (value === undefined) {
      throw new TemplateError("UnboundLocalError", `the variable ${name} is used before it is set`);
    }
    return value as Value;
  };
}

function binary(operator: string, left: Evaluate, right: Evaluate): Evaluate {
  if (operator === "and") {
    return (frame) => {
      const value = left(frame);
      return isTrue(value) ? right(frame) : value;
    };
  }
  if (operator === "or") {
    return (frame) => {
      const value = left(frame);
      return isTrue(value) ? value : right(frame);
    };
  }
  return (frame) => operate(left(frame), operator as Operator, right(frame));
}

function comparison(operator: string): (a: Value, b: Value) => boolean {
  switch (operator) {
    case "==":
      return equals;
    case "!=":
      return (a, b) => !equals(a, b);
    case "in":
      return (a, b) => contains(b, a);
    case "not in":
      return (a, b) => !contains(b, a);
  }
  return (a, b) => inOrder(a, b, operator as Order);
}

function compileArguments(node: Arguments, code: Code) {
  const args = node.args.map((arg) => compile(arg, code));
  const named = node.keywords.map(({ name, value }) => ({ name, value: compile(value, code) }));
  const rest = node.restArgs && compile(node.restArgs, code);
  const restKeywords = node.restKeywords && compile(node.restKeywords, code);
  const places = (frame: Frame): readonly Value[] => {
    const values = args.map((arg) => arg(frame));
    return rest ? [...values, ...listOf(rest(frame))] : values;
  };
  const none: readonly Value[] = [];
  const keywords = (frame: Frame): Keywords => {
    const values = new Map(named.map(({ name, value }) => [name, value(frame)]));
    if (!restKeywords) return values;
    const more = restKeywords(frame);
    if (!(more instanceof Dict)) throw typeError("argument after ** must be a mapping");
    for (const [key, value] of more.entries()) {
      if (typeof key !== "string") throw typeError("keywords must be strings");
      if (values.has(key)) throw typeError(`got multiple values for keyword argument '${key}'`);
      values.set(key, value);
    }
    return values;
  };
  return {
    places: args.length === 0 && !rest ? () => none : places,
    keywords: named.length === 0 && !restKeywords ? () => NO_KEYWORDS : keywords,
  };
}
