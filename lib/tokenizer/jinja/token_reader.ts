import type { Token } from "./lexer.ts";
import { TemplateSyntaxError } from "./limits.ts";

/** Reads a template's tokens one after the other: what is next, and what has to be. */
export class TokenReader {
  readonly #tokens: Token[];
  #at = 0;

  constructor(tokens: Token[]) {
    const line = tokens.at(-1)?.line ?? 1;
    this.#tokens = [...tokens, { type: "end of template", value: null, line }];
  }

  get token(): Token {
    return this.#tokens[this.#at];
  }

  get following(): Token {
    return this.#tokens[this.#at + 1];
  }

  next(): Token {
    const token = this.token;
    if (this.#at < this.#tokens.length - 1) this.#at++;
    return token;
  }

  is(type: string): boolean {
    return this.token.type === type;
  }

  isName(name: string, token = this.token): boolean {
    return token.type === "name" && token.value === name;
  }

  skip(type: string): boolean {
    const found = this.is(type);
    if (found) this.next();
    return found;
  }

  skipName(name: string): boolean {
    const found = this.isName(name);
    if (found) this.next();
    return found;
  }

  isNames(first: string, second: string): boolean {
    return this.isName(first) && this.isName(second, this.following);
  }

  skipNames(first: string, second: string): boolean {
    const found = this.isNames(first, second);
    if (found) {
      this.next();
      this.next();
    }
    return found;
  }

  expect(type: string): Token {
    if (!this.is(type)) this.fail(`expected token '${type}', got '${this.shown()}'`);
    return this.next();
  }

  expectName(name: string): void {
    if (!this.skipName(name)) this.fail(`expected token '${name}', got '${this.shown()}'`);
  }

  name(): string {
    return this.expect("name").value as string;
  }

  shown({ type, value } = this.token): string {
    return type === "name" ? value as string : type;
  }

  fail(message: string, line = this.token.line): never {
    throw new TemplateSyntaxError(message, line);
  }
}
