/** Translates the syntax of Oniguruma, which tokenizer.json has, to JavaScript's. */
import {
  type AlternativeElementNode,
  type AlternativeNode,
  type CharacterClassElementNode,
  type CharacterSetNode,
  parse,
  type QuantifierNode,
} from "npm:oniguruma-parser@^0.12.2/parser";

/** Why a pattern is not supported; whoever knows the place says it. */
export class PatternError extends Error {}

/** What Oniguruma takes for a character of a word: on its own, and in brackets. */
const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}`;
const LATIN_WORD = String.raw`\xb2\xb3\xb9\xbc-\xbe`;
/** Letters that together fold to one character, so that they match it where case is ignored. */
const FOLDED_TOGETHER = /ss|ff|fi|fl|st/i;
/** Names of properties whose sets are compared with Oniguruma's, besides general categories and scripts. */
const PROPERTIES = new Set(["Alphabetic", "White_Space", "Uppercase", "Lowercase", "Any", "ASCII"]);
const POSIX: Record<string, string> = {
  alnum: String.raw`\p{Alphabetic}\p{Nd}`,
  alpha: String.raw`\p{Alphabetic}`,
  ascii: String.raw`\p{ASCII}`,
  blank: String.raw`\p{Zs}\t`,
  cntrl: String.raw`\p{Cc}`,
  digit: String.raw`\p{Nd}`,
  lower: String.raw`\p{Lowercase}`,
  punct: String.raw`\p{P}\p{S}`,
  space: String.raw`\p{White_Space}`,
  upper: String.raw`\p{Uppercase}`,
  word: WORD,
  xdigit: "0-9A-Fa-f",
};

interface State {
  ignoreCase?: boolean;
  dotAll?: boolean;
  behind?: boolean;
}
/** An expression of JavaScript, and the fewest characters of a match. */
interface Translated {
  text: string;
  least: number;
}

/** @throws {PatternError} for what is not the same in JavaScript. */
export function translate(source: string): Translated {
  let tree;
  try {
    tree = parse(source);
  } catch (error) {
    throw new PatternError((error as Error).message);
  }
  return new Translator().alternatives(tree.body, {});
}

class Translator {
  #captures = 0;

  alternatives(nodes: AlternativeNode[], state: State): Translated {
    const first = nodes[0]?.body[0];
    // Where flags stand first they hold to the end of the group, whatever the syntax makes of those in the middle.
    const flags = first?.type === "Directive" && first.kind === "flags" ? first.flags : undefined;
    const inner = flags ? this.#flags(flags, state) : state;
    const parts = nodes.map(({ body }, i) => this.#sequence(flags && i === 0 ? body.slice(1) : body, inner));
    const text = parts.map((part) => part.text).join("|");
    return {
      text: inner.ignoreCase && !state.ignoreCase ? `(?i:${text})` : text,
      least: Math.min(...parts.map(({ least }) => least)),
    };
  }

  #sequence(nodes: AlternativeElementNode[], state: State): Translated {
    if (state.ignoreCase) {
      const letters = nodes.map((node) => node.type === "Character" ? String.fromCodePoint(node.value) : " ");
      if (FOLDED_TOGETHER.test(letters.join(""))) {
        throw new PatternError("letters that fold together where case is ignored");
      }
    }
    let text = "";
    let least = 0;
    for (const node of nodes) {
      const part = this.#element(node, state);
      text += part.text;
      least += part.least;
    }
    return { text, least };
  }

  #element(node: AlternativeElementNode, state: State): Translated {
    switch (node.type) {
      case "Character":
        return { text: this.#character(node.value, state), least: 1 };
      case "CharacterSet":
        if (node.kind === "dot") {
          return { text: state.dotAll ? String.raw`[^]` : String.raw`[^\n]`, least: 1 };
        }
        return { text: this.#set(node, state, false), least: 1 };
      case "CharacterClass":
        return { text: this.#class(node, state), least: 1 };
      case "Assertion":
        return { text: assertion(node.kind, node.negate), least: 0 };
      case "CapturingGroup":
        // Nothing refers to what it captured.
        return this.#group(node.body, state);
      case "Group": {
        if (node.atomic) return this.#atomic(() => this.alternatives(node.body, state), state);
        return this.#group(node.body, node.flags ? this.#flags(node.flags, state) : state, state);
      }
      case "LookaroundAssertion": {
        const behind = node.kind === "lookbehind";
        const { text } = this.alternatives(node.body, { ...state, behind: behind || state.behind });
        return { text: `(?${behind ? "<" : ""}${node.negate ? "!" : "="}${text})`, least: 0 };
      }
      case "Quantifier":
        return this.#quantifier(node, state);
      default:
        throw new PatternError(`${node.type} is not supported`);
    }
  }

  #group(body: AlternativeNode[], state: State, outer = state): Translated {
    const { text, least } = this.alternatives(body, state);
    return { text: state.ignoreCase && !outer.ignoreCase ? `(?i:${text})` : `(?:${text})`, least };
  }

  #quantifier(node: QuantifierNode, state: State): Translated {
    const { min, max, kind, body } = node;
    if (max < min) throw new PatternError("a range of repetitions from more to fewer");
    const repeat = (): Translated => {
      const inner = this.#element(body as AlternativeElementNode, state);
      if (inner.least === 0 && max > 1) throw new PatternError("what repeats may be empty");
      const group = body.type === "Quantifier" ? `(?:${inner.text})` : inner.text;
      const count = max === Infinity ? `${min},` : max === min ? `${min}` : `${min},${max}`;
      return { text: `${group}{${count}}${kind === "lazy" ? "?" : ""}`, least: inner.least * min };
    };
    return kind === "possessive" ? this.#atomic(repeat, state) : repeat();
  }

  /** A lookahead is never entered again, so what it captured is what an atomic group takes. */
  #atomic(translate: () => Translated, state: State): Translated {
    if (state.behind) throw new PatternError("atomic groups in a look behind");
    const capture = ++this.#captures;
    const { text, least } = translate();
    return { text: `(?:(?=(${text}))\\${capture})`, least };
  }

  #flags(flags: { enable?: object; disable?: object }, state: State): State {
    const { ignoreCase, dotAll, extended: _, ...rest } = { ...flags.enable } as Record<string, true>;
    const off = { ...flags.disable } as Record<string, true>;
    if (off.ignoreCase && state.ignoreCase) throw new PatternError("case that counts within what ignores it");
    const others = [...Object.keys(rest), ...Object.keys(off)].filter((name) =>
      !["ignoreCase", "dotAll", "extended"].includes(name)
    );
    if (others.length > 0) throw new PatternError(`the flag ${others[0]} is not supported`);
    return {
      ...state,
      ignoreCase: ignoreCase || state.ignoreCase,
      dotAll: off.dotAll ? false : dotAll || state.dotAll,
    };
  }

  #character(value: number, { ignoreCase }: State): string {
    if (value >= 0xd800 && value <= 0xdfff) throw new PatternError("half of a surrogate pair");
    if (ignoreCase && value > 0x7f) throw new PatternError("case beyond ASCII that is ignored");
    return escaped(String.fromCodePoint(value));
  }

  #set(node: CharacterSetNode, { ignoreCase }: State, inBrackets: boolean): string {
    const of = (inside: string) => `[${node.negate ? "^" : ""}${inside}]`;
    switch (node.kind) {
      case "digit":
        return of(String.raw`\p{Nd}`);
      case "space":
        return of(String.raw`\p{White_Space}`);
      case "hex":
        return of("0-9A-Fa-f");
      case "any":
        return "[^]";
      case "newline":
        if (!node.negate) break;
        return String.raw`[^\n]`;
      case "word":
        if (ignoreCase) throw new PatternError(String.raw`\w where case is ignored`);
        return of(inBrackets ? WORD : WORD + LATIN_WORD);
      case "posix":
        if (!(node.value in POSIX) || ignoreCase) break;
        return of(POSIX[node.value]);
      case "property": {
        if (ignoreCase) throw new PatternError(`\\p{${node.value}} where case is ignored`);
        const name = propertyOf(node.value);
        if (name === undefined) break;
        return of(`\\p{${name}}`);
      }
    }
    throw new PatternError(`the class ${node.value ?? node.kind} is not supported`);
  }

  #class(
    node: { negate: boolean; kind: string; body: CharacterClassElementNode[] },
    state: State,
  ): string {
    if (state.ignoreCase && node.negate) throw new PatternError("[^...] where case is ignored");
    const parts = node.body.map((item): string => {
      switch (item.type) {
        case "Character":
          return this.#character(item.value, state);
        case "CharacterClassRange":
          return `${this.#character(item.min.value, state)}-${this.#character(item.max.value, state)}`;
        case "CharacterClass":
          return this.#class(item, state);
        default:
          return this.#set(item, state, true);
      }
    });
    const joined = node.kind === "intersection"
      ? parts.map((part) => `[${part}]`).join("&&")
      : parts.join("");
    return `[${node.negate ? "^" : ""}${joined}]`;
  }
}

function assertion(kind: string, negate = false): string {
  switch (kind) {
    case "string_start":
      return "(?<![^])";
    case "string_end":
      return "(?![^])";
    case "string_end_newline":
      return String.raw`(?=\n?(?![^]))`;
    // Not behind the newline that ends the text.
    case "line_start":
      return String.raw`(?:(?<![^])|(?<=\n)(?=[^]))`;
    case "line_end":
      return String.raw`(?![^\n])`;
    case "word_boundary": {
      const word = `[${WORD}${LATIN_WORD}]`;
      return negate
        ? `(?:(?<=${word})(?=${word})|(?<!${word})(?!${word}))`
        : `(?:(?<=${word})(?!${word})|(?<!${word})(?=${word}))`;
    }
  }
  throw new PatternError(`${kind} is not supported`);
}

function propertyOf(name: string): string | undefined {
  if (PROPERTIES.has(name)) return name;
  for (const property of [`gc=${name}`, `sc=${name}`]) {
    try {
      new RegExp(`\\p{${property}}`, "v");
      return property;
    } catch {
      // The next one.
    }
  }
}

/** A character that stands for itself, in brackets too. */
export const escaped = (character: string) =>
  /^[\p{L}\p{N} ]$/u.test(character) ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`;
