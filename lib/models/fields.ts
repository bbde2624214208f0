/** Reads the keys of a config.json. */
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";

/** The types that models are saved in, by all of PyTorch's names. */
const DTYPES = {
  float32: "float32",
  float: "float32",
  float16: "float16",
  half: "float16",
  bfloat16: "bfloat16",
} as const;

/** A type that models are saved in. */
export type Dtype = (typeof DTYPES)[keyof typeof DTYPES];

/**
 * Reads the keys of an object and gathers what is wrong with them. After a problem a reader returns a value of the
 * right type (NaN for a number), so that the other keys are still checked. null stands for an absent key only where
 * transformers' class has a rule for it; elsewhere that refuses it too.
 */
export class Fields {
  readonly warnings: string[] = [];

  constructor(
    private readonly object: Record<string, unknown>,
    private readonly prefix = "",
    readonly problems: string[] = [],
  ) {}

  /** A key's value as the file has it. */
  value(key: string): unknown {
    return this.object[key];
  }

  /** The keys of an object within, whose problems are told with these. */
  of(key: string, object: Record<string, unknown>): Fields {
    return new Fields(object, `${this.prefix}${key}.`, this.problems);
  }

  /** @param text begins with the key that is wrong. */
  problem(text: string): void {
    this.problems.push(this.prefix + text);
  }

  /** What is read otherwise than it may be meant. */
  warn(text: string): void {
    this.warnings.push(this.prefix + text);
  }

  failure(where: string): UserError {
    if (this.problems.length === 1) return new UserError(`${where}: ${this.problems[0]}`);
    return new UserError(
      `${where}: ${this.problems.length} problems:\n` + this.problems.map((line) => `  ${line}`).join("\n"),
    );
  }

  /** A whole number from 1 to `most`. */
  count(key: string, most: number, absent?: number): number {
    return this.read(
      key,
      `a whole number from 1 to ${most}`,
      (value): value is number =>
        Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most,
      absent,
    ) ?? NaN;
  }

  /** A whole number from 0 to `most`. */
  whole(key: string, most: number, absent: number): number {
    return this.read(
      key,
      `a whole number from 0 to ${most}`,
      (value): value is number =>
        Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most,
      absent,
    ) ?? NaN;
  }

  /** A row of a table of `rows`, which a negative number counts from the end, as PyTorch does; null is none. */
  row(key: string, rows: number, absent?: number): number | undefined {
    const value = this.object[key] === undefined ? absent : this.object[key];
    if ((value ?? null) === null) return undefined;
    // After a problem of the number of rows any will do.
    const isRow = typeof value === "number" && Number.isInteger(value) && !(value < -rows || value >= rows);
    if (isRow) return value < 0 ? value + rows : value;
    this.problem(
      `${key}: expected a token id of the vocabulary, from ${-rows} to ${rows - 1}, found ${show(value)}`,
    );
    return NaN;
  }

  /** A number above 0, in float32 too: no kernel may see an infinity or a division by zero from here. */
  positive(key: string, absent?: number): number {
    return this.read(key, "a number above 0 within the range of float32", isPositive, absent) ?? NaN;
  }

  boolean(key: string, absent = false): boolean {
    return this.read(key, "true or false", (value) => typeof value === "boolean", absent) ?? absent;
  }

  /** What `read` makes of a key that may be null, which stands for undefined; absent it is `absent`. */
  orNull<T>(key: string, absent: T | undefined, read: () => T): T | undefined {
    const value = this.object[key];
    return value === undefined ? absent : value === null ? undefined : read();
  }

  /** So many of them. */
  positives(key: string, count: number): number[] {
    return this.read(
      key,
      `${count} numbers above 0 within the range of float32`,
      (value): value is number[] => Array.isArray(value) && value.length === count && value.every(isPositive),
    ) ?? [];
  }

  dtype(key: string): Dtype | undefined {
    if ((this.object[key] ?? null) === null) return undefined;
    const name = this.oneOf(key, Object.keys(DTYPES));
    return DTYPES[name as keyof typeof DTYPES];
  }

  /** One of the values that are supported, or undefined after a problem. */
  oneOf<T extends string>(key: string, supported: readonly T[], absent?: T): T | undefined {
    const value = this.object[key];
    if (typeof value === "string" && !(supported as readonly string[]).includes(value)) {
      this.problem(
        `${key}: ${show(value)} is not supported yet; supported: ${supported.join(", ")}`,
      );
      return undefined;
    }
    return this.read(key, supported.join(" or "), (value): value is T => typeof value === "string", absent);
  }

  private read<T>(
    key: string,
    expected: string,
    isValid: (value: unknown) => value is T,
    absent?: T,
  ): T | undefined {
    const value = this.object[key];
    if (value === undefined && absent !== undefined) return absent;
    if (isValid(value)) return value;
    this.problem(`${key}: expected ${expected}, found ${show(this.object[key])}`);
    return undefined;
  }
}

const isPositive = (value: unknown): value is number =>
  typeof value === "number" && Math.fround(value) > 0 && Math.fround(value) < Infinity;
