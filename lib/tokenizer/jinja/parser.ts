/** Builds the tree of a template, by Jinja's grammar with its loop controls and transformers' {% generation %}. */
import { ExpressionParser } from "./expression_parser.ts";
import { lex } from "./lexer.ts";
import { Unsupported } from "./limits.ts";
import {
  CONSTANTS,
  type Expression,
  type FilterNode,
  type IfNode,
  type NameNode,
  type Signature,
  type Statement,
  type Target,
} from "./nodes.ts";

export function parse(template: string): Statement[] {
  return new Parser(lex(template)).template();
}

/** Statements within each other; the code that Jinja makes of more is none for Python. */
const MOST_NESTED = 90;

class Parser extends ExpressionParser {
  #nested = 0;

  template(): Statement[] {
    return this.#statements();
  }

  /** Statements up to one of the tags `ends`, which is left to be read, or to the end of the template. */
  #statements(ends?: readonly string[]): Statement[] {
    if (ends) {
      this.skip(":");
      this.expect("%}");
      if (++this.#nested > MOST_NESTED) this.fail("too many statements within each other");
    }
    const body: Statement[] = [];
    let output: Statement & { type: "Output" } | undefined;
    const write = (item: string | Expression, line: number) => {
      if (!output) body.push(output = { type: "Output", items: [], lines: [], line });
      output.items.push(item);
      output.lines.push(line);
    };
    while (!this.is("end of template")) {
      const token = this.next();
      if (token.type === "data") write(token.value as string, token.line);
      else if (token.type === "{{") {
        write(this.tuple(), token.line);
        this.expect("}}");
      } else {
        output = undefined;
        if (ends?.some((end) => this.isName(end))) {
          this.#nested--;
          return body;
        }
        body.push(...this.#statement());
        this.expect("%}");
      }
    }
    if (ends) this.fail(`unexpected end of template, expected the tag ${ends.join(" or ")}`);
    return body;
  }

  #bodyUpTo(end: string): Statement[] {
    const body = this.#statements([end]);
    this.next();
    return body;
  }

  #statement(): Statement[] {
    const { line } = this.token;
    const tag = this.name();
    switch (tag) {
      case "set":
        return [this.#set(line)];
      case "for":
        return [this.#for(line)];
      case "if":
        return [this.#if(line)];
      case "macro": {
        const name = this.#targetName().name;
        return [{ type: "Macro", name, ...this.#signature(), body: this.#bodyUpTo("endmacro"), line }];
      }
      case "call": {
        const signature = this.is("(") ? this.#signature() : { args: [], defaults: [] };
        const call = this.expression();
        if (call.type !== "Call") this.fail("expected call", line);
        return [{ type: "CallBlock", call, ...signature, body: this.#bodyUpTo("endcall"), line }];
      }
      case "generation":
        return [{ type: "CallBlock", args: [], defaults: [], body: this.#bodyUpTo("endgeneration"), line }];
      case "filter": {
        const filter = this.filters(undefined, true) as FilterNode;
        return [{ type: "FilterBlock", filter, body: this.#bodyUpTo("endfilter"), line }];
      }
      case "with": {
        const targets: Target[] = [];
        const values: Expression[] = [];
        while (!this.is("%}")) {
          if (targets.length > 0) this.expect(",");
          targets.push(this.#target("param"));
          this.expect("=");
          values.push(this.expression());
        }
        return [{ type: "With", targets, values, body: this.#bodyUpTo("endwith"), line }];
      }
      case "block":
        return [this.#block(line)];
      case "print": {
        const items: Expression[] = [];
        while (!this.is("%}")) {
          if (items.length > 0) this.expect(",");
          items.push(this.expression());
        }
        return [{ type: "Output", items, lines: items.map(() => line), line }];
      }
      case "break":
        return [{ type: "Break", line }];
      case "continue":
        return [{ type: "Continue", line }];
      case "extends":
      case "include":
      case "import":
      case "from":
        return [this.#load(tag, line)];
      case "autoescape":
        throw new Unsupported("the tag autoescape");
    }
    return this.fail(`Encountered unknown tag '${tag}'.`, line);
  }

  #set(line: number): Statement {
    const target = this.#target("store", [], true);
    if (this.skip("=")) return { type: "Assign", target, value: this.tuple(), line };
    const filter = this.filters(undefined) as FilterNode | undefined;
    return { type: "AssignBlock", target, filter, body: this.#bodyUpTo("endset"), line };
  }

  #for(line: number): Statement {
    const target = this.#target("store", ["in"]);
    this.expectName("in");
    const iterable = this.tuple(false, ["recursive"]);
    const test = this.skipName("if") ? this.expression() : undefined;
    const isRecursive = this.skipName("recursive");
    const body = this.#statements(["endfor", "else"]);
    const hasElse = this.next().value === "else";
    const otherwise = hasElse ? this.#bodyUpTo("endfor") : [];
    return { type: "For", target, iterable, body, otherwise, test, isRecursive, line };
  }

  #if(line: number): IfNode {
    const first = this.#branch(line);
    let end = this.next();
    while (end.value === "elif") {
      first.elifs.push(this.#branch(end.line));
      end = this.next();
    }
    if (end.value === "else") first.otherwise = this.#bodyUpTo("endif");
    return first;
  }

  #branch(line: number): IfNode {
    const test = this.tuple(false);
    return {
      type: "If",
      test,
      body: this.#statements(["elif", "else", "endif"]),
      elifs: [],
      otherwise: [],
      line,
    };
  }

  #block(line: number): Statement {
    const name = this.name();
    const isScoped = this.skipName("scoped");
    const isRequired = this.skipName("required");
    const body = this.#bodyUpTo("endblock");
    const isBlank = body.every((node) =>
      node.type === "Output" && node.items.every((item) => typeof item === "string" && item.trim() === "")
    );
    if (isRequired && !isBlank) this.fail("Required blocks can only contain comments or whitespace");
    this.skipName(name);
    return { type: "Block", name, body, isScoped, isRequired, line };
  }

  #load(tag: string, line: number): Statement {
    const template = this.expression();
    const names: string[] = [];
    if (tag === "import") {
      this.expectName("as");
      names.push(this.#targetName().name);
    }
    if (tag === "from") {
      this.expectName("import");
      do {
        if (!this.is("name")) this.fail(`expected token 'name', got '${this.shown()}'`);
        if (this.#isContext()) break;
        const { name } = this.#targetName();
        if (name.startsWith("_")) this.fail("names starting with an underline can not be imported");
        names.push(this.skipName("as") ? this.#targetName().name : name);
        if (this.#isContext()) break;
      } while (this.skip(","));
    }
    if (tag === "include") this.skipNames("ignore", "missing");
    if (tag !== "extends" && !this.skipNames("with", "context")) this.skipNames("without", "context");
    return { type: "Load", what: tag, template, names, line };
  }

  #isContext(): boolean {
    return this.isNames("with", "context") || this.isNames("without", "context");
  }

  #signature(): Signature {
    const args: NameNode[] = [];
    const defaults: Expression[] = [];
    this.expect("(");
    while (!this.is(")")) {
      if (args.length > 0) this.expect(",");
      const name = this.#targetName("param");
      if (this.skip("=")) defaults.push(this.expression());
      else if (defaults.length > 0) this.fail("non-default argument follows default argument");
      args.push(name);
    }
    this.expect(")");
    return { args, defaults };
  }

  #targetName(use: "store" | "param" = "store"): NameNode {
    const { value, line } = this.expect("name");
    const name = value as string;
    if (Object.hasOwn(CONSTANTS, name)) this.fail("can't assign to 'const'", line);
    return { type: "Name", name, use, line };
  }

  #target(use: "store" | "param", ends: readonly string[] = [], withNamespace = false): Target {
    const { line } = this.token;
    const target = this.items(() => this.primary(withNamespace), ends, false);
    const assign = (node: Expression): void => {
      if (node.type === "Name") node.use = use;
      else if (node.type === "Tuple") node.items.forEach(assign);
      else if (node.type !== "Namespace") this.fail(`can't assign to '${node.type.toLowerCase()}'`, line);
    };
    assign(target);
    return target as Target;
  }
}
