/** Makes functions of a template's statements, with the variables that Jinja's compiler would give them. */
import { Code, Unit } from "./code.ts";
import { compile, compileFilter, type Evaluate, slotReader } from "./expressions.ts";
import { atLine, countSteps, TemplateError, TemplateSyntaxError, Unsupported } from "./limits.ts";
import { allWithin, type FilterNode, type IfNode, type Statement } from "./nodes.ts";
import { parse } from "./parser.ts";
import { toText } from "./print.ts";
import { Context, type Frame, Output } from "./runtime.ts";
import { Symbols, undeclared } from "./scopes.ts";
import { isTrue, Namespace, type Value } from "./values.ts";
import { BREAK, type CompileBody, CONTINUE, type Execute, type Signal } from "./execute.ts";
import { assigner, enterer, leaver, namespacesOf, noNamespace, storer } from "./variables.ts";
import { compileCallBlock, compileMacro } from "./macros.ts";
import { compileFor } from "./loops.ts";

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

  readonly #body: CompileBody = (nodes, code) => {
    const statements = nodes.map((node) => this.#counted(node, code));
    if (statements.length === 1) return statements[0];
    return (frame) => {
      for (const statement of statements) {
        const signal = statement(frame);
        if (signal !== 0) return signal;
      }
      return 0;
    };
  };

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
        return compileFor(node, code, this.#body);
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
        const make = compileMacro(node, code, node.name, this.#body);
        const store = storer(node.name, code, node.line);
        return (frame) => {
          store(frame, make(frame));
          return 0;
        };
      }
      case "CallBlock":
        return compileCallBlock(node, code, this.#body);
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
