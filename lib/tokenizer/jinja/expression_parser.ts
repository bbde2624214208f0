import { type Arguments, type CallNode, CONSTANTS, type Expression } from "./nodes.ts";
import { TokenReader } from "./token_reader.ts";

/** Calls of the parser within each other. */
const MOST_LEVELS = 1000;
const COMPARISONS = ["==", "!=", "<", "<=", ">", ">="];

/** Reads expressions, by how tightly each operator binds. */
export class ExpressionParser extends TokenReader {
  #levels = 0;

  tuple(withCondition = true, ends: readonly string[] = [], inParentheses = false): Expression {
    return this.items(() => this.expression(withCondition), ends, inParentheses);
  }

  items(item: () => Expression, ends: readonly string[], inParentheses: boolean): Expression {
    let { line } = this.token;
    const items: Expression[] = [];
    let isTuple = false;
    while (true) {
      if (items.length > 0) this.expect(",");
      if (["}}", "%}", ")"].some((end) => this.is(end)) || ends.some((end) => this.isName(end))) break;
      items.push(item());
      if (!this.is(",")) break;
      isTuple = true;
      line = this.token.line;
    }
    if (!isTuple) {
      if (items.length > 0) return items[0];
      if (!inParentheses) this.fail(`Expected an expression, got '${this.shown()}'`);
    }
    return { type: "Tuple", items, line };
  }

  expression(withCondition = true): Expression {
    if (++this.#levels > MOST_LEVELS) this.fail("too many expressions within each other");
    let { line } = this.token;
    let value = this.#or();
    while (withCondition && this.skipName("if")) {
      const test = this.#or();
      const otherwise = this.skipName("else") ? this.expression() : undefined;
      value = { type: "Condition", test, then: value, otherwise, line };
      line = this.token.line;
    }
    this.#levels--;
    return value;
  }

  #binary(operators: readonly string[], operand: () => Expression, isWord = false): Expression {
    let left = operand();
    let depth = 0;
    while (operators.some((operator) => isWord ? this.isName(operator) : this.is(operator))) {
      const { value, line } = this.next();
      // A chain is as deep as it is long when it is evaluated.
      if (++depth > MOST_LEVELS) this.fail("too long an expression");
      left = { type: "Binary", operator: value as string, left, right: operand(), line };
    }
    return left;
  }

  #or(): Expression {
    return this.#binary(["or"], () => this.#binary(["and"], () => this.#not(), true), true);
  }

  #not(): Expression {
    if (!this.isName("not")) return this.#compare();
    const { line } = this.next();
    return this.#deeper(() => ({ type: "Unary", operator: "not", operand: this.#not(), line }));
  }

  #deeper(read: () => Expression): Expression {
    if (++this.#levels > MOST_LEVELS) this.fail("too many expressions within each other");
    const value = read();
    this.#levels--;
    return value;
  }

  #compare(): Expression {
    const { line } = this.token;
    const sum = () => this.#binary(["+", "-"], () => this.#concat());
    const first = sum();
    const rest: { operator: string; operand: Expression }[] = [];
    while (true) {
      if (COMPARISONS.includes(this.token.type)) rest.push({ operator: this.next().type, operand: sum() });
      else if (this.skipName("in")) rest.push({ operator: "in", operand: sum() });
      else if (this.skipNames("not", "in")) rest.push({ operator: "not in", operand: sum() });
      else break;
    }
    return rest.length === 0 ? first : { type: "Compare", first, rest, line };
  }

  #concat(): Expression {
    const { line } = this.token;
    const product = () =>
      this.#binary(["*", "/", "//", "%"], () => this.#binary(["**"], () => this.#unary()));
    const items = [product()];
    while (this.skip("~")) items.push(product());
    return items.length === 1 ? items[0] : { type: "Concat", items, line };
  }

  #unary(withFilter = true): Expression {
    const { type, line } = this.token;
    let node: Expression;
    if (type === "-" || type === "+") {
      this.next();
      node = this.#deeper(() => ({ type: "Unary", operator: type, operand: this.#unary(false), line }));
    } else node = this.primary();
    node = this.#postfix(node);
    return withFilter ? this.#filtered(node) : node;
  }

  primary(withNamespace = false): Expression {
    const token = this.next();
    const { line } = token;
    switch (token.type) {
      case "name": {
        const name = token.value as string;
        if (Object.hasOwn(CONSTANTS, name)) return { type: "Constant", value: CONSTANTS[name], line };
        if (withNamespace && this.skip(".")) {
          return { type: "Namespace", name, attribute: this.name(), line };
        }
        return { type: "Name", name, use: "load", line };
      }
      case "string": {
        let text = token.value as string;
        while (this.is("string")) text += this.next().value as string;
        return { type: "Constant", value: text, line };
      }
      case "number":
        return { type: "Constant", value: token.value, line };
      case "(": {
        const value = this.tuple(true, [], true);
        this.expect(")");
        return value;
      }
      case "[": {
        const items = this.#list("]", () => this.expression());
        return { type: "List", items, line };
      }
      case "{": {
        const values: Expression[] = [];
        const keys = this.#list("}", () => {
          const key = this.expression();
          this.expect(":");
          values.push(this.expression());
          return key;
        });
        return { type: "Dict", keys, values, line };
      }
    }
    return this.fail(`unexpected '${this.shown(token)}'`, line);
  }

  #list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.is(end)) {
      if (items.length > 0) this.expect(",");
      if (this.is(end)) break;
      items.push(item());
    }
    this.next();
    return items;
  }

  /** What follows a value directly: attributes, items and calls, again and again. */
  #postfix(node: Expression): Expression {
    for (let depth = 0; depth <= MOST_LEVELS; depth++) {
      if (this.is(".") || this.is("[")) node = this.#subscript(node);
      else if (this.is("(")) node = this.#call(node);
      else return node;
    }
    return this.fail("too long an expression");
  }

  #filtered(node: Expression): Expression {
    for (let depth = 0; depth <= MOST_LEVELS; depth++) {
      if (this.is("|")) node = this.filters(node)!;
      else if (this.isName("is")) node = this.#test(node);
      else if (this.is("(")) node = this.#call(node);
      else return node;
    }
    return this.fail("too long an expression");
  }

  #subscript(of: Expression): Expression {
    const { type, line } = this.next();
    if (type === ".") {
      const { type, value, line: at } = this.next();
      if (type === "name") return { type: "Attribute", of, name: value as string, line };
      if (type !== "number" || typeof value === "object") this.fail("expected name or number", at);
      return { type: "Item", of, item: { type: "Constant", value, line }, line };
    }
    const items: (Expression | { start?: Expression; stop?: Expression; step?: Expression })[] = [];
    while (!this.is("]")) {
      if (items.length > 0) this.expect(",");
      items.push(this.#subscribed());
    }
    this.next();
    const [only] = items;
    if (items.length === 1 && !("type" in only)) return { type: "Slice", of, ...only, line };
    if (!items.every((item) => "type" in item)) this.fail("a slice among several items", line);
    const item: Expression = items.length === 1 ? only as Expression : {
      type: "Tuple",
      items: items as Expression[],
      line,
    };
    return { type: "Item", of, item, line };
  }

  #subscribed(): Expression | { start?: Expression; stop?: Expression; step?: Expression } {
    let start: Expression | undefined;
    if (!this.skip(":")) {
      start = this.expression();
      if (!this.skip(":")) return start;
    }
    const isEnd = () => this.is("]") || this.is(",");
    const stop = this.is(":") || isEnd() ? undefined : this.expression();
    const step = this.skip(":") && !isEnd() ? this.expression() : undefined;
    return { start, stop, step };
  }

  #call(callee: Expression): CallNode {
    const { line } = this.token;
    return { type: "Call", callee, ...this.#arguments(), line };
  }

  #arguments(): Arguments {
    const { line } = this.expect("(");
    const found: Arguments = { args: [], keywords: [] };
    const ensure = (isValid: boolean) => {
      if (!isValid) this.fail("invalid syntax for function call expression", line);
    };
    for (let isFirst = true; !this.is(")"); isFirst = false) {
      if (!isFirst) {
        this.expect(",");
        if (this.is(")")) break;
      }
      if (this.skip("*")) {
        ensure(!found.restArgs && !found.restKeywords);
        found.restArgs = this.expression();
      } else if (this.skip("**")) {
        ensure(!found.restKeywords);
        found.restKeywords = this.expression();
      } else if (this.is("name") && this.following.type === "=") {
        ensure(!found.restKeywords);
        const name = this.name();
        this.next();
        if (found.keywords.some((keyword) => keyword.name === name)) {
          this.fail(`keyword argument repeated: ${name}`, line);
        }
        found.keywords.push({ name, value: this.expression() });
      } else {
        ensure(!found.restArgs && !found.restKeywords && found.keywords.length === 0);
        found.args.push(this.expression());
      }
    }
    this.next();
    return found;
  }

  filters(value: Expression | undefined, isFirst = false): Expression | undefined {
    let node = value;
    for (let depth = 0; isFirst || this.is("|"); depth++) {
      if (depth > MOST_LEVELS) this.fail("too long an expression");
      if (!isFirst) this.next();
      isFirst = false;
      const { line } = this.token;
      const name = this.#dottedName();
      const found = this.is("(") ? this.#arguments() : { args: [], keywords: [] };
      node = { type: "Filter", value: node, name, ...found, line };
    }
    return node;
  }

  #dottedName(): string {
    let name = this.name();
    while (this.skip(".")) name += `.${this.name()}`;
    return name;
  }

  #test(value: Expression): Expression {
    const { line } = this.next();
    const isNegated = this.skipName("not");
    const name = this.#dottedName();
    let found: Arguments = { args: [], keywords: [] };
    const startsOperand = ["name", "string", "number", "[", "{"].includes(this.token.type);
    if (this.is("(")) found = this.#arguments();
    else if (startsOperand && !["else", "or", "and"].some((word) => this.isName(word))) {
      if (this.isName("is")) this.fail("You cannot chain multiple tests with is");
      found.args = [this.#postfix(this.primary())];
    }
    const node: Expression = { type: "Test", value, name, ...found, line };
    return isNegated ? { type: "Unary", operator: "not", operand: node, line } : node;
  }
}
