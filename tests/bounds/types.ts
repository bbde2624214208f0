/** Which length has what is indexed: as much of WGSL's types as kernels need for it. */
import { closing, listed, opening, parted, pastName, textOf, type Token } from "./tokens.ts";

/** A type by its words; or the value of a name, whose type is looked for only where it is indexed. */
type Known = { type: Token[] } | { value: Token[]; names: Names };
type Names = ReadonlyMap<string, Known>;

/** Functions whose result has the type of their first argument. */
const LIKE_FIRST = [
  ...["abs", "clamp", "exp", "exp2", "floor", "fma", "fract", "log", "max", "min", "mix", "pow", "round"],
  ...["select", "sign", "sqrt", "inverseSqrt", "subgroupAdd", "subgroupMax", "subgroupShuffle"],
  ...["subgroupShuffleXor", "subgroupBroadcast"],
];
const OPERATORS = ["+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "==", "!=", "<=", ">=", "&&", "||"];
const isName = (word?: Token): boolean => /^[A-Za-z_]/.test(word?.text ?? "") && word!.text !== "return";

/** The names of a kernel, as one goes through its words. */
export class Scopes {
  readonly #words: readonly Token[];
  readonly #aliases = new Map<string, Token[]>();
  readonly #members = new Map<string, Map<string, Token[]>>();
  readonly #results = new Map<string, Token[]>();
  /** Of the module, then of each block that is open. */
  readonly #blocks: Map<string, Known>[] = [new Map()];
  /** Arguments of the function whose block comes next. */
  #next = new Map<string, Known>();

  constructor(words: readonly Token[]) {
    this.#words = words;
    let depth = 0;
    words.forEach(({ text }, i) => {
      if (depth === 0) this.#declare(text, i);
      if (text === "{") depth++;
      if (text === "}") depth--;
    });
  }

  /** What stands at the outermost level. */
  #declare(text: string, i: number): void {
    const words = this.#words;
    const name = words[i + 1]?.text;
    if (text === "alias") this.#aliases.set(name, words.slice(i + 3, pastName(words, i + 3)));
    if (text === "struct") {
      const members = listed(words, i + 2).map((member): [string, Token[]] => {
        const colon = member.findIndex(({ text }) => text === ":");
        return [member[colon - 1].text, member.slice(colon + 1)];
      });
      this.#members.set(name, new Map(members));
    }
    if (text === "fn") {
      const end = closing(words, i + 2);
      if (words[end + 1].text !== "->") return;
      this.#results.set(name, words.slice(end + 2, pastName(words, end + 2)));
    }
    if (["var", "const", "override"].includes(text)) this.#name(i);
  }

  /** Goes on to the word with the number `i`. */
  pass(i: number): void {
    const words = this.#words;
    const { text } = words[i];
    if (text === "{") {
      this.#blocks.push(this.#next);
      this.#next = new Map();
    }
    if (text === "}") this.#blocks.pop();
    if (text === "fn") {
      for (const argument of listed(words, i + 2)) {
        const colon = argument.findIndex(({ text }) => text === ":");
        this.#next.set(argument[colon - 1].text, { type: argument.slice(colon + 1) });
      }
    }
    // What a `for` declares stays known in the block around it, until it is declared once more: that does no harm.
    if (this.#blocks.length > 1 && ["var", "let", "const"].includes(text)) this.#name(i);
  }

  /** `var`, `let` or `const` at `i`, of the innermost block. */
  #name(i: number): void {
    const words = this.#words;
    const at = pastName(words, i);
    const names = this.#blocks.at(-1)!;
    if (words[at + 1].text === ":") {
      names.set(words[at].text, { type: words.slice(at + 2, pastName(words, at + 2)) });
    } else if (words[at + 1].text === "=") {
      const [value] = parted(words.slice(at + 2, this.#statementEnd(at + 2)), [";"]);
      // As names are now: the value may have one of the same name in it.
      names.set(words[at].text, { value, names: this.#names() });
    }
  }

  #statementEnd(from: number): number {
    let i = from;
    while (this.#words[i].text !== ";") {
      i = "([{".includes(this.#words[i].text) ? closing(this.#words, i) + 1 : i + 1;
    }
    return i;
  }

  /** What the bracket at `open` indexes, and WGSL of its length. */
  indexed(open: number): { base: string; length: string } {
    const words = this.#words.slice(this.#operandBefore(open), open);
    const base = textOf(words).replaceAll(" ", "");
    return { base, length: this.#lengthOf(this.#typeOf(words, this.#names()), base) };
  }

  /** What subgroupMatrixLoad or subgroupMatrixStore at `i` accesses: from where on, and how many elements. */
  matrixSpan(i: number): { name: string; first: Token[]; extent: string; length: string } {
    const words = this.#words;
    const [array, first, ...rest] = listed(words, pastName(words, i));
    const template = listed(words, i + 1);
    const isLoad = words[i].text === "subgroupMatrixLoad";
    const [, columns, rows] = listed(isLoad ? template[0] : this.#typeOf(rest[0], this.#names()), 1);
    const stride = textOf(rest.at(-1)!);
    const order = textOf(template.at(-1)!);
    if (array[0].text !== "&" || array.length !== 2 || !["row_major", "col_major"].includes(order)) {
      throw new Error(`${textOf(words.slice(i, i + 30))} is not understood`);
    }
    const [lines, across] = order === "row_major" ? [rows, columns] : [columns, rows];
    const name = array[1].text;
    const extent = `(${textOf(lines)} - 1u) * (${stride}) + ${textOf(across)}`;
    return { name, first, extent, length: this.#lengthOf(this.#typeOf([array[1]], this.#names()), name) };
  }

  #names(): Names {
    return new Map(this.#blocks.flatMap((block) => [...block]));
  }

  /** Where the operand that ends before `end` begins: a name, call or parenthesis, with indices and members behind. */
  #operandBefore(end: number): number {
    const words = this.#words;
    for (let i = end - 1;; i--) {
      // Behind a call or an index there is what is called or indexed.
      while (["]", ")"].includes(words[i].text)) {
        const isParenthesis = words[i].text === ")";
        i = opening(words, i);
        const before = words[i - 1].text === "›" ? opening(words, i - 1) : i;
        if (isParenthesis && !isName(words[before - 1])) break;
        i = before - 1;
      }
      if (words[i - 1].text !== ".") return i;
      i--;
    }
  }

  #resolved(type: Token[]): Token[] {
    const alias = this.#aliases.get(type[0].text);
    return alias ? this.#resolved(alias) : type;
  }

  /** The type of an expression, as far as it matters to an index. */
  #typeOf(words: Token[], names: Names): Token[] {
    const operands = parted(words, OPERATORS);
    if (operands.length > 1 || operands[0].length < words.length) {
      // Of a sum of a number and a vector, the vector.
      const types = operands.map((operand) => this.#typeOf(operand, names));
      return types.find(([{ text }]) => text.startsWith("vec")) ?? types[0];
    }
    let [type, at] = this.#primary(words, names);
    type = this.#resolved(type);
    while (at < words.length) {
      if (words[at].text === "[") {
        type = this.#elementOf(type);
        at = closing(words, at) + 1;
      } else if (words[at].text === ".") {
        type = this.#memberOf(type, words[at + 1]);
        at += 2;
      } else throw new Error(`${textOf(words)} is not understood`);
      type = this.#resolved(type);
    }
    return type;
  }

  #primary(words: Token[], names: Names): [type: Token[], past: number] {
    const [{ text, at }] = words;
    const is = (type: string): Token[] => [{ text: type, at }];
    if (text === "(") {
      const end = closing(words, 0);
      return [this.#typeOf(words.slice(1, end), names), end + 1];
    }
    if (/^[.\d]/.test(text)) return [is("number"), 1];
    const open = pastName(words, 0);
    if (words[open]?.text !== "(") {
      const known = names.get(text);
      if (!known) throw new Error(`${textOf(words)} is not understood`);
      return ["type" in known ? known.type : this.#typeOf(known.value, known.names), 1];
    }
    const past = closing(words, open) + 1;
    const result = this.#results.get(text);
    if (result) return [result, past];
    if (LIKE_FIRST.includes(text)) return [this.#typeOf(listed(words, open)[0], names), past];
    if (text === "bitcast") return [words.slice(2, open - 1), past];
    if (["dot", "arrayLength", "atomicLoad"].includes(text)) return [is("number"), past];
    if (["textureLoad", "unpack4xI8", "unpack4xU8"].includes(text)) return [is("vec4"), past];
    if (
      /^(vec|array|f32|f16|u32|i32|subgroup_matrix)/.test(text) || this.#members.has(text) ||
      this.#aliases.has(text)
    ) {
      return [words.slice(0, open), past];
    }
    throw new Error(`${text} is not understood`);
  }

  #memberOf(type: Token[], { text, at }: Token): Token[] {
    const member = this.#members.get(type[0].text)?.get(text);
    if (member) return member;
    if (!type[0].text.startsWith("vec")) throw new Error(`${textOf(type)} has no ${text}`);
    return [{ text: text.length > 1 ? `vec${text.length}` : "number", at }];
  }

  #elementOf(type: Token[]): Token[] {
    if (type[0].text === "array") return listed(type, 1)[0];
    if (type[0].text.startsWith("vec")) return [{ text: "number", at: type[0].at }];
    throw new Error(`${textOf(type)} has no elements`);
  }

  #lengthOf(given: Token[], name: string): string {
    const type = this.#resolved(given);
    const [, components] = /^vec([234])/.exec(type[0].text) ?? [];
    if (components) return `${components}u`;
    if (type[0].text !== "array") throw new Error(`${name}, ${textOf(type)}, is not understood`);
    const [, length] = listed(type, 1);
    return length ? `u32(${textOf(length)})` : `arrayLength(&${name})`;
  }
}
