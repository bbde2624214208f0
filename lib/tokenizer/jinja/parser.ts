/** Builds the tree of a template, by Jinja's grammar with its loop controls and transformers' {% generation %}. */
import { lex, type Token } from "./lexer.ts";
import { TemplateSyntaxError, Unsupported } from "./limits.ts";
import type {
  Arguments,
  CallNode,
  Expression,
  FilterNode,
  IfNode,
  NameNode,
  Signature,
  Statement,
  Target,
} from "./nodes.ts";

export function parse(template: string): Statement[] {
  return new Parser(lex(template)).template();
}

/** Statements within each other; the code that Jinja makes of more is none for Python. */
const MOST_NESTED = 90;
/** Calls of the parser within each other. */
const MOST_LEVELS = 1000;
const COMPARISONS = ["==", "!=", "<", "<=", ">", ">="];
const CONSTANTS: Record<string, boolean | null> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};

class Parser {
  readonly #tokens: Token[];
  #at = 0;
  #nested = 0;
  #levels = 0;

  constructor(tokens: Token[]) {
    const line = tokens.at(-1)?.line ?? 1;
    this.#tokens = [...tokens, { type: "end of template", value: null, line }];
  }

  template(): Statement[] {
    return this.#statements();
  }

  get #token(): Token {
    return this.#tokens[this.#at];
  }

  #next(): Token {
    const token = this.#token;
    if (this.#at < this.#tokens.length - 1) this.#at++;
    return token;
  }

  #is(type: string): boolean {
    return this.#token.type === type;
  }

  #isName(name: string, token = this.#token): boolean {
    return token.type === "name" && token.value === name;
  }

  #skip(type: string): boolean {
    const found = this.#is(type);
    if (found) this.#next();
    return found;
  }

  #skipName(name: string): boolean {
    const found = this.#isName(name);
    if (found) this.#next();
    return found;
  }

  #expect(type: string): Token {
    if (!this.#is(type)) this.#fail(`expected token '${type}', got '${this.#shown()}'`);
    return this.#next();
  }

  #expectName(name: string): void {
    if (!this.#skipName(name)) this.#fail(`expected token '${name}', got '${this.#shown()}'`);
  }

  #name(): string {
    return this.#expect("name").value as string;
  }

  #shown(): string {
    return this.#is("name") ? this.#token.value as string : this.#token.type;
  }

  #fail(message: string, line = this.#token.line): never {
    throw new TemplateSyntaxError(message, line);
  }

  /** Statements up to one of the tags `ends`, which is left to be read, or to the end of the template. */
  #statements(ends?: readonly string[]): Statement[] {
    if (ends) {
      this.#skip(":");
      this.#expect("%}");
      if (++this.#nested > MOST_NESTED) this.#fail("too many statements within each other");
    }
    const body: Statement[] = [];
    let output: Statement & { type: "Output" } | undefined;
    const write = (item: string | Expression, line: number) => {
      if (!output) body.push(output = { type: "Output", items: [], lines: [], line });
      output.items.push(item);
      output.lines.push(line);
    };
    while (!this.#is("end of template")) {
      const token = this.#next();
      if (token.type === "data") write(token.value as string, token.line);
      else if (token.type === "{{") {
        write(this.#tuple(), token.line);
        this.#expect("}}");
      } else {
        output = undefined;
        if (ends?.some((end) => this.#isName(end))) {
          this.#nested--;
          return body;
        }
        body.push(...this.#statement());
        this.#expect("%}");
      }
    }
    if (ends) this.#fail(`unexpected end of template, expected the tag ${ends.join(" or ")}`);
    return body;
  }

  #bodyUpTo(end: string): Statement[] {
    const body = this.#statements([end]);
    this.#next();
    return body;
  }

  #statement(): Statement[] {
    const { line } = this.#token;
    const tag = this.#name();
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
        const signature = this.#is("(") ? this.#signature() : { args: [], defaults: [] };
        const call = this.#expression();
        if (call.type !== "Call") this.#fail("expected call", line);
        return [{ type: "CallBlock", call, ...signature, body: this.#bodyUpTo("endcall"), line }];
      }
      case "generation":
        return [{ type: "CallBlock", args: [], defaults: [], body: this.#bodyUpTo("endgeneration"), line }];
      case "filter": {
        const filter = this.#filters(undefined, true) as FilterNode;
        return [{ type: "FilterBlock", filter, body: this.#bodyUpTo("endfilter"), line }];
      }
      case "with": {
        const targets: Target[] = [];
        const values: Expression[] = [];
        while (!this.#is("%}")) {
          if (targets.length > 0) this.#expect(",");
          targets.push(this.#target("param"));
          this.#expect("=");
          values.push(this.#expression());
        }
        return [{ type: "With", targets, values, body: this.#bodyUpTo("endwith"), line }];
      }
      case "block":
        return [this.#block(line)];
      case "print": {
        const items: Expression[] = [];
        while (!this.#is("%}")) {
          if (items.length > 0) this.#expect(",");
          items.push(this.#expression());
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
    return this.#fail(`Encountered unknown tag '${tag}'.`, line);
  }

  #set(line: number): Statement {
    const target = this.#target("store", [], true);
    if (this.#skip("=")) return { type: "Assign", target, value: this.#tuple(), line };
    const filter = this.#filters(undefined) as FilterNode | undefined;
    return { type: "AssignBlock", target, filter, body: this.#bodyUpTo("endset"), line };
  }

  #for(line: number): Statement {
    const target = this.#target("store", ["in"]);
    this.#expectName("in");
    const iterable = this.#tuple(false, ["recursive"]);
    const test = this.#skipName("if") ? this.#expression() : undefined;
    const isRecursive = this.#skipName("recursive");
    const body = this.#statements(["endfor", "else"]);
    const hasElse = this.#next().value === "else";
    const otherwise = hasElse ? this.#bodyUpTo("endfor") : [];
    return { type: "For", target, iterable, body, otherwise, test, isRecursive, line };
  }

  #if(line: number): IfNode {
    const first = this.#branch(line);
    let end = this.#next();
    while (end.value === "elif") {
      first.elifs.push(this.#branch(end.line));
      end = this.#next();
    }
    if (end.value === "else") first.otherwise = this.#bodyUpTo("endif");
    return first;
  }

  #branch(line: number): IfNode {
    const test = this.#tuple(false);
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
    const name = this.#name();
    const isScoped = this.#skipName("scoped");
    const isRequired = this.#skipName("required");
    const body = this.#bodyUpTo("endblock");
    const isBlank = body.every((node) =>
      node.type === "Output" && node.items.every((item) => typeof item === "string" && item.trim() === "")
    );
    if (isRequired && !isBlank) this.#fail("Required blocks can only contain comments or whitespace");
    this.#skipName(name);
    return { type: "Block", name, body, isScoped, isRequired, line };
  }

  #load(tag: string, line: number): Statement {
    const template = this.#expression();
    const names: string[] = [];
    if (tag === "import") {
      this.#expectName("as");
      names.push(this.#targetName().name);
    }
    if (tag === "from") {
      this.#expectName("import");
      do {
        if (!this.#is("name")) this.#fail(`expected token 'name', got '${this.#shown()}'`);
        if (this.#isContext()) break;
        const { name } = this.#targetName();
        if (name.startsWith("_")) this.#fail("names starting with an underline can not be imported");
        names.push(this.#skipName("as") ? this.#targetName().name : name);
        if (this.#isContext()) break;
      } while (this.#skip(","));
    }
    if (tag === "include" && this.#isName("ignore") && this.#isName("missing", this.#tokens[this.#at + 1])) {
      this.#at += 2;
    }
    if (tag !== "extends" && this.#isContext()) this.#at += 2;
    return { type: "Load", what: tag, template, names, line };
  }

  #isContext(): boolean {
    return (this.#isName("with") || this.#isName("without")) &&
      this.#isName("context", this.#tokens[this.#at + 1]);
  }

  #signature(): Signature {
    const args: NameNode[] = [];
    const defaults: Expression[] = [];
    this.#expect("(");
    while (!this.#is(")")) {
      if (args.length > 0) this.#expect(",");
      const name = this.#targetName("param");
      if (this.#skip("=")) defaults.push(this.#expression());
      else if (defaults.length > 0) this.#fail("non-default argument follows default argument");
      args.push(name);
    }
    this.#expect(")");
    return { args, defaults };
  }

  #targetName(use: "store" | "param" = "store"): NameNode {
    const { value, line } = this.#expect("name");
    const name = value as string;
    if (Object.hasOwn(CONSTANTS, name)) this.#fail("can't assign to 'const'", line);
    return { type: "Name", name, use, line };
  }

  #target(use: "store" | "param", ends: readonly string[] = [], withNamespace = false): Target {
    const { line } = this.#token;
    const target = this.#items(() => this.#primary(withNamespace), ends, false);
    const assign = (node: Expression): void => {
      if (node.type === "Name") node.use = use;
      else if (node.type === "Tuple") node.items.forEach(assign);
      else if (node.type !== "Namespace") this.#fail(`can't assign to '${node.type.toLowerCase()}'`, line);
    };
    assign(target);
    return target as Target;
  }

  #tuple(withCondition = true, ends: readonly string[] = [], inParentheses = false): Expression {
    return this.#items(() => this.#expression(withCondition), ends, inParentheses);
  }

  #items(item: () => Expression, ends: readonly string[], inParentheses: boolean): Expression {
    let { line } = this.#token;
    const items: Expression[] = [];
    let isTuple = false;
    while (true) {
      if (items.length > 0) this.#expect(",");
      if (["}}", "%}", ")"].some((end) => this.#is(end)) || ends.some((end) => this.#isName(end))) break;
      items.push(item());
      if (!this.#is(",")) break;
      isTuple = true;
      line = this.#token.line;
    }
    if (!isTuple) {
      if (items.length > 0) return items[0];
      if (!inParentheses) this.#fail(`Expected an expression, got '${this.#shown()}'`);
    }
    return { type: "Tuple", items, line };
  }

  #expression(withCondition = true): Expression {
    if (++this.#levels > MOST_LEVELS) this.#fail("too many expressions within each other");
    let { line } = this.#token;
    let value = this.#or();
    while (withCondition && this.#skipName("if")) {
      const test = this.#or();
      const otherwise = this.#skipName("else") ? this.#expression() : undefined;
      value = { type: "Condition", test, then: value, otherwise, line };
      line = this.#token.line;
    }
    this.#levels--;
    return value;
  }

  #binary(operators: readonly string[], operand: () => Expression, isWord = false): Expression {
    let left = operand();
    let depth = 0;
    while (operators.some((operator) => isWord ? this.#isName(operator) : this.#is(operator))) {
      const { value, line } = this.#next();
      // A chain is as deep as it is long when it is evaluated.
      if (++depth > MOST_LEVELS) this.#fail("too long an expression");
      left = { type: "Binary", operator: value as string, left, right: operand(), line };
    }
    return left;
  }

  #or(): Expression {
    return this.#binary(["or"], () => this.#binary(["and"], () => this.#not(), true), true);
  }

  #not(): Expression {
    if (!this.#isName("not")) return this.#compare();
    const { line } = this.#next();
    return this.#deeper(() => ({ type: "Unary", operator: "not", operand: this.#not(), line }));
  }

  #deeper(read: () => Expression): Expression {
    if (++this.#levels > MOST_LEVELS) this.#fail("too many expressions within each other");
    const value = read();
    this.#levels--;
    return value;
  }

  #compare(): Expression {
    const { line } = this.#token;
    const sum = () => this.#binary(["+", "-"], () => this.#concat());
    const first = sum();
    const rest: { operator: string; operand: Expression }[] = [];
    while (true) {
      if (COMPARISONS.includes(this.#token.type)) rest.push({ operator: this.#next().type, operand: sum() });
      else if (this.#skipName("in")) rest.push({ operator: "in", operand: sum() });
      else if (this.#isName("not") && this.#isName("in", this.#tokens[this.#at + 1])) {
        this.#at += 2;
        rest.push({ operator: "not in", operand: sum() });
      } else break;
    }
    return rest.length === 0 ? first : { type: "Compare", first, rest, line };
  }

  #concat(): Expression {
    const { line } = this.#token;
    const product = () =>
      this.#binary(["*", "/", "//", "%"], () => this.#binary(["**"], () => this.#unary()));
    const items = [product()];
    while (this.#skip("~")) items.push(product());
    return items.length === 1 ? items[0] : { type: "Concat", items, line };
  }

  #unary(withFilter = true): Expression {
    const { type, line } = this.#token;
    let node: Expression;
    if (type === "-" || type === "+") {
      this.#next();
      node = this.#deeper(() => ({ type: "Unary", operator: type, operand: this.#unary(false), line }));
    } else node = this.#primary();
    node = this.#postfix(node);
    return withFilter ? this.#filtered(node) : node;
  }

  #primary(withNamespace = false): Expression {
    const token = this.#next();
    const { line } = token;
    switch (token.type) {
      case "name": {
        const name = token.value as string;
        if (Object.hasOwn(CONSTANTS, name)) return { type: "Constant", value: CONSTANTS[name], line };
        if (withNamespace && this.#skip(".")) {
          return { type: "Namespace", name, attribute: this.#name(), line };
        }
        return { type: "Name", name, use: "load", line };
      }
      case "string": {
        let text = token.value as string;
        while (this.#is("string")) text += this.#next().value as string;
        return { type: "Constant", value: text, line };
      }
      case "number":
        return { type: "Constant", value: token.value, line };
      case "(": {
        const value = this.#tuple(true, [], true);
        this.#expect(")");
        return value;
      }
      case "[": {
        const items = this.#list("]", () => this.#expression());
        return { type: "List", items, line };
      }
      case "{": {
        const values: Expression[] = [];
        const keys = this.#list("}", () => {
          const key = this.#expression();
          this.#expect(":");
          values.push(this.#expression());
          return key;
        });
        return { type: "Dict", keys, values, line };
      }
    }
    this.#at -= this.#is("end of template") && token.type === "end of template" ? 0 : 1;
    return this.#fail(`unexpected '${this.#shown()}'`, line);
  }

  #list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.#is(end)) {
      if (items.length > 0) this.#expect(",");
      if (this.#is(end)) break;
      items.push(item());
    }
    this.#next();
    return items;
  }

  /** What follows a value directly: attributes, items and calls, again and again. */
  #postfix(node: Expression): Expression {
    for (let depth = 0; depth <= MOST_LEVELS; depth++) {
      if (this.#is(".") || this.#is("[")) node = this.#subscript(node);
      else if (this.#is("(")) node = this.#call(node);
      else return node;
    }
    return this.#fail("too long an expression");
  }

  #filtered(node: Expression): Expression {
    for (let depth = 0; depth <= MOST_LEVELS; depth++) {
      if (this.#is("|")) node = this.#filters(node)!;
      else if (this.#isName("is")) node = this.#test(node);
      else if (this.#is("(")) node = this.#call(node);
      else return node;
    }
    return this.#fail("too long an expression");
  }

  #subscript(of: Expression): Expression {
    const { type, line } = this.#next();
    if (type === ".") {
      const { type, value, line: at } = this.#next();
      if (type === "name") return { type: "Attribute", of, name: value as string, line };
      if (type !== "number" || typeof value === "object") this.#fail("expected name or number", at);
      return { type: "Item", of, item: { type: "Constant", value, line }, line };
    }
    const items: (Expression | { start?: Expression; stop?: Expression; step?: Expression })[] = [];
    while (!this.#is("]")) {
      if (items.length > 0) this.#expect(",");
      items.push(this.#subscribed());
    }
    this.#next();
    const [only] = items;
    if (items.length === 1 && !("type" in only)) return { type: "Slice", of, ...only, line };
    if (!items.every((item) => "type" in item)) this.#fail("a slice among several items", line);
    const item: Expression = items.length === 1 ? only as Expression : {
      type: "Tuple",
      items: items as Expression[],
      line,
    };
    return { type: "Item", of, item, line };
  }

  #subscribed(): Expression | { start?: Expression; stop?: Expression; step?: Expression } {
    let start: Expression | undefined;
    if (!this.#skip(":")) {
      start = this.#expression();
      if (!this.#skip(":")) return start;
    }
    const isEnd = () => this.#is("]") || this.#is(",");
    const stop = this.#is(":") || isEnd() ? undefined : this.#expression();
    const step = this.#skip(":") && !isEnd() ? this.#expression() : undefined;
    return { start, stop, step };
  }

  #call(callee: Expression): CallNode {
    const { line } = this.#token;
    return { type: "Call", callee, ...this.#arguments(), line };
  }

  #arguments(): Arguments {
    const { line } = this.#expect("(");
    const found: Arguments = { args: [], keywords: [] };
    const ensure = (isValid: boolean) => {
      if (!isValid) this.#fail("invalid syntax for function call expression", line);
    };
    for (let isFirst = true; !this.#is(")"); isFirst = false) {
      if (!isFirst) {
        this.#expect(",");
        if (this.#is(")")) break;
      }
      if (this.#skip("*")) {
        ensure(!found.restArgs && !found.restKeywords);
        found.restArgs = this.#expression();
      } else if (this.#skip("**")) {
        ensure(!found.restKeywords);
        found.restKeywords = this.#expression();
      } else if (this.#is("name") && this.#tokens[this.#at + 1].type === "=") {
        ensure(!found.restKeywords);
        const name = this.#name();
        this.#next();
        if (found.keywords.some((keyword) => keyword.name === name)) {
          this.#fail(`keyword argument repeated: ${name}`, line);
        }
        found.keywords.push({ name, value: this.#expression() });
      } else {
        ensure(!found.restArgs && !found.restKeywords && found.keywords.length === 0);
        found.args.push(this.#expression());
      }
    }
    this.#next();
    return found;
  }

  #filters(value: Expression | undefined, isFirst = false): Expression | undefined {
    let node = value;
    for (let depth = 0; isFirst || this.#is("|"); depth++) {
      if (depth > MOST_LEVELS) this.#fail("too long an expression");
      if (!isFirst) this.#next();
      isFirst = false;
      const { line } = this.#token;
      const name = this.#dottedName();
      const found = this.#is("(") ? this.#arguments() : { args: [], keywords: [] };
      node = { type: "Filter", value: node, name, ...found, line };
    }
    return node;
  }

  #dottedName(): string {
    let name = this.#name();
    while (this.#skip(".")) name += `.${this.#name()}`;
    return name;
  }

  #test(value: Expression): Expression {
    const { line } = this.#next();
    const isNegated = this.#skipName("not");
    const name = this.#dottedName();
    let found: Arguments = { args: [], keywords: [] };
    const startsOperand = ["name", "string", "number", "[", "{"].includes(this.#token.type);
    if (this.#is("(")) found = this.#arguments();
    else if (startsOperand && !["else", "or", "and"].some((word) => this.#isName(word))) {
      if (this.#isName("is")) this.#fail("You cannot chain multiple tests with is");
      found.args = [this.#postfix(this.#primary())];
    }
    const node: Expression = { type: "Test", value, name, ...found, line };
    return isNegated ? { type: "Unary", operator: "not", operand: node, line } : node;
  }
}
