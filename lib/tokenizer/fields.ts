import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";

/** Levels of components within components: more are none that a model has, and recursive code ends in them. */
const MOST_LEVELS = 32;

/**
 * A component of tokenizer.json, read key by key: whatever is not what `tokenizers` (Rust) takes is refused by file
 * and key.
 */
export class Fields {
  private constructor(
    readonly json: Record<string, unknown>,
    /** File and key of the component. */
    readonly where: string,
    readonly level: number,
  ) {}

  static of(value: unknown, where: string, level = 0): Fields {
    if (!isObject(value)) throw new UserError(`${where}: expected an object, found ${show(value)}`);
    if (level > MOST_LEVELS) {
      throw new UserError(`${where}: components nested more than ${MOST_LEVELS} deep are not supported`);
    }
    return new Fields(value, where, level);
  }

  get type(): string {
    return this.text("type");
  }

  /** The objects of a list. */
  list(key: string): Fields[] {
    const value = this.json[key];
    if (!Array.isArray(value)) throw this.#expected(key, "a list");
    return value.map((item, i) => Fields.of(item, `${this.where}.${key}[${i}]`, this.level + 1));
  }

  text(key: string, otherwise?: string): string {
    const value = this.json[key] ?? otherwise;
    if (typeof value !== "string") throw this.#expected(key, "text");
    return value;
  }

  /** Text, or undefined where it is null or absent. */
  optionalText(key: string): string | undefined {
    return this.json[key] === undefined || this.json[key] === null ? undefined : this.text(key);
  }

  flag(key: string, otherwise?: boolean): boolean {
    const value = this.json[key] ?? otherwise;
    if (typeof value !== "boolean") throw this.#expected(key, "true or false");
    return value;
  }

  count(key: string, otherwise?: number): number {
    const value = this.json[key] ?? otherwise;
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.#expected(key, "a whole number");
    return value as number;
  }

  oneOf<T extends string>(key: string, values: readonly T[], otherwise?: T): T {
    const value = this.json[key] ?? otherwise;
    if (!values.includes(value as T)) throw this.#expected(key, `one of ${values.join(", ")}`);
    return value as T;
  }

  /** A single character. */
  character(key: string): string {
    const value = this.text(key);
    if ([...value].length !== 1) throw this.#expected(key, "one character");
    return value;
  }

  /** A `{"String": ...}` or `{"Regex": ...}`. */
  pattern(key: string): { kind: "String" | "Regex"; text: string } {
    const value = this.json[key];
    const entries = isObject(value) ? Object.entries(value) : [];
    const [kind, text] = entries[0] ?? [];
    if (entries.length !== 1 || (kind !== "String" && kind !== "Regex") || typeof text !== "string") {
      throw this.#expected(key, '{"String": text} or {"Regex": text}');
    }
    return { kind, text };
  }

  /** That the component is refused, and why. */
  refusal(why: string): UserError {
    return new UserError(`${this.where}: ${why}`);
  }

  #expected(key: string, what: string): UserError {
    return new UserError(`${this.where}.${key}: expected ${what}, found ${show(this.json[key])}`);
  }
}
