/** Makes functions of macros, and of blocks that are given to one as its caller. */
import { Code } from "./code.ts";
import { compile } from "./expressions.ts";
import { countSteps, TemplateSyntaxError } from "./limits.ts";
import type { CallBlockNode, MacroNode, Node, Signature } from "./nodes.ts";
import { toText } from "./print.ts";
import { type Frame, macro, MISSING, Output } from "./runtime.ts";
import { Symbols, undeclared } from "./scopes.ts";
import { type Callable, NO_KEYWORDS, Undefined } from "./values.ts";
import type { CompileBody, Execute } from "./execute.ts";
import { enterer } from "./variables.ts";

/** A name that no template can have. */
const CALLER = "0caller";

/** The variables of the place of a call block, and its caller. */
class CallerSymbols extends Symbols {
  constructor(readonly around: Symbols, readonly variable: string) {
    super(around.parent, around.level);
  }
  override find(name: string): string | undefined {
    return name === CALLER ? this.variable : this.around.find(name);
  }
  override loadOf(variable: string) {
    return this.around.loadOf(variable);
  }
}

/** What a macro is not given: in the order of its parameters, as one's default may ask for those before it. */
function defaultsOf(
  { args, defaults, line }: Signature & { line: number },
  code: Code,
): ((frame: Frame) => void)[] {
  return args.map(({ name }, i) => {
    const { index } = code.slotOf(code.symbols.reference(name, line));
    const given = defaults[i - args.length + defaults.length];
    const value = given && compile(given, code);
    const hint = () => `parameter '${name}' was not provided`;
    return (frame) => {
      if (frame.slots[index] !== MISSING) return;
      frame.slots[index] = value ? value(frame) : new Undefined(hint);
    };
  });
}

export function compileMacro(
  node: MacroNode | CallBlockNode,
  code: Code,
  name: string | undefined,
  compileBody: CompileBody,
): (frame: Frame) => Callable {
  const inner = code.function();
  const content: Node[] = [...node.args, ...node.defaults, ...node.body];
  inner.symbols.visit(content);
  const parameters = node.args.map((arg) => arg.name);
  const asked = undeclared(node.body, ["caller", "kwargs", "varargs"]);
  const isGiven = parameters.includes("caller");
  if (
    isGiven && asked.has("caller") &&
    parameters.indexOf("caller") < parameters.length - node.defaults.length
  ) {
    throw new TemplateSyntaxError(
      'the special "caller" argument must be omitted or be given a default',
      node.line,
    );
  }
  const special = ["caller", "kwargs", "varargs"].filter((word) =>
    asked.has(word) && !parameters.includes(word)
  );
  for (const word of special) inner.symbols.parameter(word);
  inner.symbols.visit(content);
  const slots = [...parameters, ...special].map((parameter) =>
    inner.slotOf(inner.symbols.reference(parameter, node.line)).index
  );
  inner.isDefault = true;
  const defaults = defaultsOf(node, inner);
  inner.isDefault = false;
  const weight = inner.weight + 1;
  const enter = enterer(inner);
  const run = compileBody(node.body, inner);
  const signature = {
    name,
    parameters,
    usesCaller: asked.has("caller"),
    usesKeywords: special.includes("kwargs"),
    usesRest: special.includes("varargs"),
  };
  return (frame) =>
    macro(signature, (values) => {
      const own: Frame = { slots: [], outer: frame, out: new Output(), context: frame.context };
      countSteps(weight);
      slots.forEach((slot, i) => own.slots[slot] = values[i]);
      enter(own);
      for (const fill of defaults) fill(own);
      run(own);
      return own.out.text;
    });
}

export function compileCallBlock(node: CallBlockNode, code: Code, compileBody: CompileBody): Execute {
  const make = compileMacro(node, code, undefined, compileBody);
  if (!node.call) {
    return (frame) => {
      frame.out.write(make(frame).run([], NO_KEYWORDS) as string);
      return 0;
    };
  }
  const { call: called } = node;
  const keywords = [...called.keywords, {
    name: "caller",
    value: { type: "Name", name: CALLER, use: "load", line: node.line } as const,
  }];
  if (called.keywords.some(({ name }) => name === "caller")) {
    throw new TemplateSyntaxError("keyword argument repeated: caller", node.line);
  }
  // The caller is a variable of the unit that no name of the template can be.
  const variable = `${code.unit.level} ${CALLER}`;
  const { index } = code.slotOf(variable);
  const withCaller = new Code(new CallerSymbols(code.symbols, variable), code.unit);
  withCaller.isSoft = code.isSoft;
  const text = compile({ ...called, keywords }, withCaller);
  code.weight += withCaller.weight;
  return (frame) => {
    frame.slots[index] = make(frame);
    frame.out.write(toText(text(frame)));
    return 0;
  };
}
