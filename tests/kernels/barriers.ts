/**
 * Looks for barriers that WGSL lacks. A driver that runs the threads of a workgroup in step gives right numbers
 * without them, so no result shows it; other devices give wrong ones.
 *
 * Between a write of a workgroup variable and a read of it there must be a `workgroupBarrier`, and between a read and
 * the next write, on every path through `main`, around loops too. Two writes may follow each other: each thread has
 * its own elements. Which elements are meant is not looked at, so a thread that reads what it wrote itself needs a
 * barrier here too. A barrier may stand in no `if`: all threads must come by.
 *
 * Atomic sums may follow each other, and need a barrier before and behind them as a write does.
 *
 * It understands the statements that kernels have, and refuses others.
 */

/** What threads may have done since the last barrier: `read NAME`, `write NAME`, `add NAME`. */
type Accesses = ReadonlySet<string>;

type Statement =
  | { kind: "plain"; text: string }
  | { kind: "barrier" }
  | { kind: "leave"; text: string }
  | { kind: "if"; condition: string; then: Statement[]; otherwise: Statement[] }
  | { kind: "loop"; start: string; condition: string; step: string; body: Statement[] };

/**
 * A kernel whose `main` calls function `name` of its own: the statements of that stand before each line that calls
 * it.
 */
export function inlined(source: string, name: string): string {
  const [whole] = new RegExp(`fn ${name}\\(.*?\\n}\\n`, "s").exec(source)!;
  const body = whole.slice(whole.indexOf("{") + 1, whole.lastIndexOf("return"));
  return source.replace(whole, "")
    .replaceAll(new RegExp(`^.*\\b${name}\\(.*$`, "gm"), (line) => body + line.replaceAll(name, "made"));
}

/**
 * A line for each barrier that is missing in `main`, or stands where not all threads may come by.
 * @param constants conditions that are the same for all threads, and which way they go.
 */
export function missingBarriers(source: string, constants: Record<string, boolean> = {}): string[] {
  const code = source.replaceAll(/\/\/.*$/gm, "");
  const names = [...code.matchAll(/var<workgroup>\s+(\w+)/g)].map(([, name]) => name);
  const main = /\bfn main\s*\([^{]*\{/.exec(code);
  if (!main) throw new Error("no fn main");
  const parser = new Parser(code, main.index + main[0].length);
  const statements = parser.block();
  const outside = code.slice(0, main.index) + code.slice(parser.at);
  const used = names.find((name) => new RegExp(`\\b${name}\\b(?!\\s*:)`).test(outside));
  if (used) throw new Error(`${used} is used outside of main`);
  return new Checker(names, constants).check(statements);
}

/** A recursive-descent reader of blocks and statements; expressions stay text. */
class Parser {
  constructor(readonly code: string, public at: number) {}

  /** Statements up to the closing brace, and past it. */
  block(): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      this.#skip(/\s*/y);
      if (this.#skip(/\}/y)) return statements;
      if (this.#skip(/\{/y)) statements.push(...this.block());
      else statements.push(this.#statement());
    }
  }

  #statement(): Statement {
    if (this.#skip(/if\b/y)) return this.#if();
    if (this.#skip(/for\b/y)) {
      const [start, condition, step] = this.#parenthesis().split(";");
      return { kind: "loop", start, condition, step, body: this.#braced() };
    }
    const word = this.#skip(/(while|loop|switch|continue|continuing)\b/y);
    if (word) throw new Error(`${word} is not understood`);
    const text = this.#until(";");
    if (/^workgroupBarrier\s*\(\s*\)$/.test(text)) return { kind: "barrier" };
    if (/Barrier|workgroupUniformLoad/.test(text)) throw new Error(`${text} is not understood`);
    return /^(return|break)\b/.test(text) ? { kind: "leave", text } : { kind: "plain", text };
  }

  #if(): Statement {
    const condition = this.#condition();
    const then = this.block();
    this.#skip(/\s*/y);
    if (!this.#skip(/else\b/y)) return { kind: "if", condition, then, otherwise: [] };
    this.#skip(/\s*/y);
    const otherwise = this.#skip(/if\b/y) ? [this.#if()] : this.#braced();
    return { kind: "if", condition, then, otherwise };
  }

  /** Up to the opening brace, and past it. */
  #condition(): string {
    return this.#until("{");
  }

  #braced(): Statement[] {
    this.#skip(/\s*/y);
    if (!this.#skip(/\{/y)) throw new Error(`expected { at ${this.code.slice(this.at, this.at + 40)}`);
    return this.block();
  }

  #parenthesis(): string {
    this.#skip(/\s*/y);
    const begin = this.at + 1;
    let depth = 0;
    do {
      if (this.code[this.at] === "(") depth++;
      if (this.code[this.at] === ")") depth--;
      this.at++;
    } while (depth > 0);
    return this.code.slice(begin, this.at - 1);
  }

  #until(end: string): string {
    const stop = this.code.indexOf(end, this.at);
    if (stop < 0) throw new Error(`expected ${end}`);
    const text = this.code.slice(this.at, stop).trim();
    this.at = stop + 1;
    return text;
  }

  /** Passes over what stands here, and returns it. */
  #skip(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.code)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }
}

class Checker {
  readonly #problems = new Set<string>();
  /** What was done when a `break` left the innermost loop. */
  #broken: Accesses[] = [];

  constructor(readonly names: readonly string[], readonly constants: Record<string, boolean>) {}

  check(statements: readonly Statement[]): string[] {
    this.#follow(statements, new Set(), false);
    return [...this.#problems];
  }

  /** What may have been done after `statements`; undefined where no path comes to their end. */
  #follow(statements: readonly Statement[], before: Accesses, inIf: boolean): Accesses | undefined {
    let now: Accesses | undefined = before;
    for (const statement of statements) {
      if (!now) return;
      now = this.#one(statement, now, inIf);
    }
    return now;
  }

  #one(statement: Statement, now: Accesses, inIf: boolean): Accesses | undefined {
    switch (statement.kind) {
      case "barrier":
        if (inIf) this.#problems.add("a barrier stands where not all threads may come by");
        return new Set();
      case "plain":
        return this.#plain(statement.text, now);
      case "leave": {
        const after = this.#plain(statement.text, now);
        if (statement.text === "break") this.#broken.push(after);
        return;
      }
      case "if": {
        const known = this.constants[statement.condition.replace(/^\(|\)$/g, "")];
        if (known !== undefined) return this.#follow(known ? statement.then : statement.otherwise, now, inIf);
        const decided = this.#plain(statement.condition, now);
        const ways = [statement.then, statement.otherwise].map((way) => this.#follow(way, decided, true));
        return union(ways.filter((way) => way !== undefined));
      }
      case "loop": {
        const outer = this.#broken;
        this.#broken = [];
        let head = this.#plain(statement.start, now);
        // Until a pass leaves nothing new for the next one.
        for (let known = -1; known < head.size;) {
          known = head.size;
          const end = this.#follow(statement.body, this.#plain(statement.condition, head), inIf);
          if (end) head = union([head, this.#plain(statement.step, end)])!;
        }
        const after = union([head, ...this.#broken]);
        this.#broken = outer;
        return after;
      }
    }
  }

  /** A statement without others in it: what it reads, then what it writes. */
  #plain(text: string, before: Accesses): Accesses {
    const now = new Set(before);
    const assigned = /^(\w+)[^=]*?[-+*/%|&^]?=(?!=)/.exec(text);
    const isDeclared = /^(let|var|const)\b/.test(text);
    const target = assigned && !isDeclared ? assigned[1] : undefined;
    const isCompound = assigned !== null && /[-+*/%|&^]=$/.test(assigned[0]);
    for (const name of this.names) {
      const atomic = new RegExp(`\\batomic(Load|Store|Add)\\(\\s*&\\s*${name}\\b`).exec(text)?.[1];
      const matrix = new RegExp(`\\bsubgroupMatrix(Load|Store)<.*?>\\(\\s*&\\s*${name}\\b`).exec(text)?.[1];
      const mentions = text.match(new RegExp(`(?<![.\\w])${name}\\b`, "g"))?.length ?? 0;
      if (!atomic && !matrix && new RegExp(`(?<!&)&\\s*${name}\\b`).test(text)) {
        throw new Error(`${text} is not understood`);
      }
      const isWritten = target === name || atomic === "Store" || matrix === "Store";
      const isRead = atomic ? atomic === "Load" : mentions > (isWritten && !isCompound ? 1 : 0);
      if (isRead) {
        if (before.has(`write ${name}`) || before.has(`add ${name}`)) {
          this.#problems.add(`${name} is read after a write: ${text}`);
        }
        now.add(`read ${name}`);
      }
      if (atomic === "Add") {
        if (before.has(`write ${name}`) || before.has(`read ${name}`)) {
          this.#problems.add(`${name} is added to after a write or a read: ${text}`);
        }
        now.add(`add ${name}`);
      }
      if (isWritten) {
        if (now.has(`read ${name}`) || now.has(`add ${name}`)) {
          this.#problems.add(`${name} is written after a read: ${text}`);
        }
        now.add(`write ${name}`);
      }
    }
    return now;
  }
}

function union(all: readonly Accesses[]): Accesses | undefined {
  if (all.length > 0) return new Set(all.flatMap((accesses) => [...accesses]));
}
