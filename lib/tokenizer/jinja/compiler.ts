/** Makes functions of a template's statements, with the variables that Jinja's compiler would give them. */
import { Code, Unit } from "./code.ts";
import { compile, compileFilter, type Evaluate, slotReader } from "./expressions.ts";
import { atLine, countSteps, TemplateError, TemplateSyntaxError, Unsupported } from "./limits.ts";
import {
  allWithin,
  type CallBlockNode,
  childrenOf,
  type FilterNode,
  type ForNode,
  type IfNode,
  type MacroNode,
  type Node,
  type Signature,
  type Statement,
  type Target,
} from "./nodes.ts";
import { parse } from "./parser.ts";
import { toText } from "./print.ts";
import {
  Context,
  type Frame,
  Loop,
  macro,
  MISSING,
  Output,
  type Slot,
  undefinedName,
  unpack,
} from "./runtime.ts";
import { setsLoop, Symbols, undeclared } from "./scopes.ts";
import {
  type Callable,
  Generator as PythonGenerator,
  isTrue,
  iterate,
  Namespace,
  NO_KEYWORDS,
  Tuple,
  Undefined,
  type Value,
} from "./values.ts";

/** How a statement ended: all is well, or the loop around it is to end or to go on. */
type Signal = 0 | typeof BREAK | typeof CONTINUE;
const BREAK = 1;
const CONTINUE = 2;
type Execute = (frame: Frame) => Signal;

/** Loops that CPython lets be within each other in one function. */
const MOST_LOOPS = 20;

/** A template, ready to be rendered. */
export function compileTemplate(template: string): (given: ReadonlyMap<string, Value>) => string {
  return new Compiler(parse(template)).root;
}

class Compiler {
  readonly root: (given: ReadonlyMap<string, Value>) => string;
  readonly #blocks = new Map<string, (context: Context) => string>();

  constructor(body: readonly Statement[]) {
    for (const node of allWithin(body)) {
      if (node.type !== "Block") continue;
      if (this.#blocks.has(node.name)) {
        throw new TemplateSyntaxError(`block '${node.name}' defined twice`, node.line);
      }
      this.#blocks.set(node.name, () => "");
    }
    const root = this.#function(body, true);
    for (const node of allWithin(body)) {
      if (node.type === "Block") this.#blocks.set(node.name, this.#function(node.body, false));
    }
    this.root = (given) => root(new Context(given));
  }

  /** The template as a whole, or a block of it, which knows nothing of the variables around it. */
  #function(body: readonly Statement[], isTop: boolean): (context: Context) => string {
    const special = undeclared(body, ["self", "super"]);
    if (special.size > 0) throw new Unsupported(`${[...special][0]}, a template's own blocks`);
    const code = new Code(new Symbols(), new Unit(0));
    code.symbols.visit(body);
    code.isTop = isTop;
    const run = this.#body(body, code);
    const enter = enterer(code);
    return (context) => {
      const frame: Frame = { slots: [], outer: undefined, out: new Output(), context };
      enter(frame);
      run(frame);
      return frame.out.text;
    };
  }

  #body(nodes: readonly Statement[], code: Code): Execute {
    const statements = nodes.map((node) => this.#counted(node, code));
    if (statements.length === 1) return statements[0];
    return (frame) => {
      for (const statement of statements) {
        const signal = statement(frame);
        if (signal !== 0) return signal;
      }
      return 0;
    };
  }

  /** A statement that counts its steps, and says where it is. */
  #counted(node: Statement, code: Code): Execute {
    code.weight = 1;
    const run = this.#statement(node, code);
    const { weight } = code;
    const { line } = node;
    return (frame) => {
      countSteps(weight);
      atLine(line);
      return run(frame);
    };
  }

  #statement(node: Statement, code: Code): Execute {
    switch (node.type) {
      case "Output":
        return output(node, code);
      case "If":
        return this.#if(node, code);
      case "For":
        return this.#for(node, code);
      case "Assign": {
        const value = compile(node.value, code);
        const assign = assigner(node.target, code);
        const checks = namespacesOf(node.target).map(({ name, line }) =>
          slotReader(code, code.symbols.reference(name, line))
        );
        return (frame) => {
          for (const check of checks) if (!(check(frame) instanceof Namespace)) throw noNamespace();
          assign(frame, value(frame));
          return 0;
        };
      }
      case "AssignBlock": {
        const inner = code.inner();
        inner.symbols.visit(node.body);
        const run = this.#captured(node.body, inner);
        const assign = assigner(node.target, code);
        let text = "";
        const filter = node.filter && compileFilterChain(node.filter, () => text, inner);
        code.weight += inner.weight;
        return (frame) => {
          const captured = run(frame);
          if (typeof captured !== "string") return captured;
          text = captured;
          assign(frame, filter ? filter(frame) : captured);
          return 0;
        };
      }
      case "FilterBlock": {
        const inner = code.inner();
        inner.symbols.visit([...node.body, node.filter]);
        const run = this.#captured(node.body, inner);
        let text = "";
        const filter = compileFilterChain(node.filter, () => text, inner);
        code.weight += inner.weight;
        return (frame) => {
          const captured = run(frame);
          if (typeof captured !== "string") return captured;
          text = captured;
          frame.out.write(toText(filter(frame)));
          return 0;
        };
      }
      case "With": {
        const inner = code.inner();
        inner.symbols.visit([...node.targets, ...node.body]);
        const enter = enterer(inner);
        const assigns = node.targets.map((target, i) => {
          const value = compile(node.values[i], code);
          const assign = assigner(target, inner);
          return (frame: Frame) => assign(frame, value(frame));
        });
        const run = this.#body(node.body, inner);
        const leave = leaver(inner);
        return (frame) => {
          enter(frame);
          for (const assign of assigns) assign(frame);
          const signal = run(frame);
          if (signal === 0) leave(frame);
          return signal;
        };
      }
      case "Macro": {
        const make = this.#macro(node, code, node.name);
        const store = storer(node.name, code, node.line);
        return (frame) => {
          store(frame, make(frame));
          return 0;
        };
      }
      case "CallBlock": {
        const make = this.#macro(node, code, undefined);
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
      case "Block": {
        const stored = node.isScoped
          ? [...code.symbols.stored()].map(([name, variable]) => ({ name, read: slotReader(code, variable) }))
          : undefined;
        return (frame) => {
          if (node.isRequired) {
            throw new TemplateError("TemplateRuntimeError", `Required block '${node.name}' not found`);
          }
          const context = stored
            ? frame.context.derived(stored.map(({ name, read }) => [name, read(frame)] as const))
            : frame.context;
          frame.out.write(this.#blocks.get(node.name)!(context));
          return 0;
        };
      }
      case "Load":
        if (node.what === "extends" && !code.isTop) {
          throw new TemplateSyntaxError("cannot use extend from a non top-level scope", node.line);
        }
        return () => {
          throw new TemplateError("TypeError", `no loader for this environment specified (${node.what})`);
        };
      case "Break":
      case "Continue": {
        if (code.loops === 0) {
          throw new TemplateSyntaxError(`'${node.type.toLowerCase()}' outside loop`, node.line);
        }
        const signal = node.type === "Break" ? BREAK : CONTINUE;
        return () => signal;
      }
    }
  }

  #if(node: IfNode, code: Code): Execute {
    const soft = code.soft();
    soft.weight = 0;
    const tests = [node, ...node.elifs].map(({ test }) => compile(test, soft));
    code.weight += soft.weight;
    const branches = [node, ...node.elifs].map(({ body, line }, i) => ({
      test: tests[i],
      body: this.#body(body, soft),
      line,
    }));
    const otherwise = node.otherwise.length > 0 ? this.#body(node.otherwise, soft) : undefined;
    return (frame) => {
      for (const { test, body, line } of branches) {
        atLine(line);
        if (isTrue(test(frame))) return body(frame);
      }
      return otherwise ? otherwise(frame) : 0;
    };
  }

  /** The text that statements write; or the signal of what ended them. */
  #captured(body: readonly Statement[], code: Code): (frame: Frame) => string | Signal {
    const enter = enterer(code);
    const run = this.#body(body, code);
    return (frame) => {
      const { out } = frame;
      enter(frame);
      frame.out = new Output();
      const signal = run(frame);
      const { text } = frame.out;
      frame.out = out;
      return signal === 0 ? text : signal;
    };
  }

  #macro(node: MacroNode | CallBlockNode, code: Code, name: string | undefined): (frame: Frame) => Callable {
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
    const run = this.#body(node.body, inner);
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

  #for(node: ForNode, code: Code): Execute {
    if (setsLoop(node)) {
      throw new TemplateSyntaxError("Can't assign to special loop variable in for-loop target", node.line);
    }
    const around = node.isRecursive ? code.function() : code.inner();
    const loopCode = around;
    if (++loopCode.loops > MOST_LOOPS) {
      throw new TemplateSyntaxError("too many loops within each other", node.line);
    }
    const isExtended = node.isRecursive || undeclared(node.body, ["loop"]).has("loop") ||
      [...allWithin([node])].some((inner) => inner.type === "Block" && inner.isScoped);
    const loopSlot = isExtended ? loopCode.slotOf(loopCode.symbols.parameter("loop")).index : undefined;
    loopCode.symbols.visit([node.target], true);
    loopCode.symbols.visit(node.body);

    const elseCode = new Code(new Symbols(code.symbols), loopCode.unit);
    elseCode.loops = loopCode.loops - 1;
    elseCode.symbols.visit(node.otherwise);

    const filter = node.test && loopFilter(node, code);
    const assign = assigner(node.target, loopCode);
    const enter = enterer(loopCode);
    const body = this.#body(node.body, loopCode);
    const leave = leaver(loopCode);
    const enterElse = enterer(elseCode);
    const otherwise = node.otherwise.length > 0 ? this.#body(node.otherwise, elseCode) : undefined;
    const iterable = compile(node.iterable, code);

    const round = (frame: Frame, item: Value): Signal => {
      countSteps(1);
      assign(frame, item);
      enter(frame);
      return body(frame);
    };
    const go = (frame: Frame, given: Value, loopOf: (items: Value) => Loop | undefined): Signal => {
      // Python's loop variable is empty until the first round.
      if (loopSlot !== undefined) frame.slots[loopSlot] = MISSING;
      const items = filter ? filter(frame, given) : given;
      const loop = loopOf(items);
      let isEmpty = true;
      if (loop) {
        for (let item = loop.next(); item !== undefined; item = loop.next()) {
          frame.slots[loopSlot!] = loop;
          const signal = round(frame, item);
          if (signal === BREAK) break;
          if (signal === 0) isEmpty = false;
        }
      } else {
        const iterator = iterate(items);
        for (let next = iterator.next(); !next.done; next = iterator.next()) {
          const signal = round(frame, next.value);
          if (signal === BREAK) break;
          if (signal === 0) isEmpty = false;
        }
      }
      leave(frame);
      if (!isEmpty || !otherwise) return 0;
      enterElse(frame);
      return otherwise(frame);
    };
    if (!node.isRecursive) {
      const loopOf = isExtended ? (items: Value) => new Loop(items) : () => undefined;
      return (frame) => go(frame, iterable(frame), loopOf);
    }
    return (frame) => {
      const render = (items: Value, depth: number): string => {
        const own: Frame = { slots: [], outer: frame, out: new Output(), context: frame.context };
        go(own, items, (items) => new Loop(items, render, depth));
        return own.out.text;
      };
      frame.out.write(render(iterable(frame), 0));
      return 0;
    };
  }
}

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

function output(node: Statement & { type: "Output" }, code: Code): Execute {
  const items = node.items.map((item) => typeof item === "string" ? item : compile(item, code));
  const { lines } = node;
  return (frame) => {
    for (let i = 0; i < items.length; i++) {
      const item = items[i];
      if (typeof item === "string") frame.out.write(item);
      else {
        atLine(lines[i]);
        frame.out.write(toText(item(frame)));
      }
    }
    return 0;
  };
}

/** A filter, or several one upon another, of a block's text. */
function compileFilterChain(
  node: FilterNode,
  text: () => string,
  code: Code,
): Evaluate {
  const { value } = node;
  const inner = value?.type === "Filter" ? compileFilterChain(value, text, code) : text;
  return compileFilter(node, inner, code);
}

/** What begins a frame's variables. */
function enterer(code: Code): (frame: Frame) => void {
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
function leaver(code: Code): (frame: Frame) => void {
  const slots = [...code.symbols.loads.keys()].map((variable) => code.slotOf(variable).index);
  return (frame) => {
    for (const slot of slots) frame.slots[slot] = MISSING;
  };
}

/** Sets a name; one that is set at the top is the template's own for its macros and blocks. */
function storer(name: string, code: Code, line: number): (frame: Frame, value: Value) => void {
  const { hops, index } = code.slotOf(code.symbols.reference(name, line));
  if (hops > 0) throw new Error(`${name} is set in another function`);
  const { isTop } = code;
  return (frame, value) => {
    frame.slots[index] = value;
    if (isTop) frame.context.set.set(name, value);
  };
}

function assigner(target: Target, code: Code): (frame: Frame, value: Value) => void {
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

const noNamespace = () =>
  new TemplateError("TemplateRuntimeError", "cannot assign attribute on non-namespace object");

function* namespacesWithin(node: Node): Generator<{ name: string; line: number }> {
  if (node.type === "Namespace") yield node;
  for (const child of childrenOf(node)) yield* namespacesWithin(child);
}
const namespacesOf = (target: Target) => [...namespacesWithin(target)];

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

/** The items of a loop that pass its `if`, one at a time, as the body may change what the test asks for. */
function loopFilter(node: ForNode, code: Code): (frame: Frame, items: Value) => PythonGenerator {
  const inner = code.function();
  inner.symbols.visit([node.target], true);
  inner.symbols.visit([node.test!]);
  const enter = enterer(inner);
  const assign = assigner(node.target, inner);
  const read = reader(node.target, inner);
  const test = compile(node.test!, inner);
  const hops = node.isRecursive ? 1 : 0;
  return (frame, items) =>
    new PythonGenerator((function* () {
      // A recursive loop asks from within its own function, and the filter is made outside.
      const own: Frame = {
        slots: [],
        outer: hops === 1 ? frame.outer : frame,
        out: frame.out,
        context: frame.context,
      };
      enter(own);
      const iterator = iterate(items);
      for (let next = iterator.next(); !next.done; next = iterator.next()) {
        countSteps(inner.weight);
        assign(own, next.value);
        if (isTrue(test(own))) yield read(own);
      }
    })());
}

/** The value of a target: a tuple of its names, whatever was unpacked. */
function reader(target: Target, code: Code): Evaluate {
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
