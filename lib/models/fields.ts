/** Reads the keys of a config.json. */
import { UserError } from "../errors.ts";
import { show } from "../json.ts";

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
 * Reads the keys of an object and gathers what is wrong with them. After a problem a reader returns a value
 * of the right type (NaN for a number), so that the other keys are still checked. null stands for an absent key only where
 * transformers' class has a rule for it; elsewhere that refuses it too.
 */
export class Fields {
  constructor(
    private readonly object: Record<string, unknown>,
    private readonly prefix = "",
    readonly problems: string[] = [],
  ) {}

  /** A key's value as the file has it. */
  value(key: string): unknown {
    return this.object[key];
  }

  problem(text: string): void {
    this.problems.push(text);
  }

  /** A problem of one key. */
  problemOf(key: string, text: string): void {
    this.problem(`${this.prefix}${key}${text}`);
  }

  failure(where: string): UserError {
    if (this.problems.length === 1) return new UserError(`${where}: ${this.problems[0]}`);
    return new UserError(
      `${where}: ${this.problems.length} problems:\n` + this.problems.map((line) => `  ${line}`).join("\n"),
    );
  }

  /** A whole number from 1 to `most`. */
  count(key: string, most: number, absent: number, isNullAbsent = false): number {
    if (isNullAbsent && this.object[key] === null) return absent;
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

  /** A row of a table of `rows`, which a negative number counts from the end, as PyTorch does. */
  row(key: string, rows: number): number {
    const value = this.read(
      key,
      `a token id of the vocabulary, from ${-rows} to ${rows - 1}`,
      // After a problem of the vocabulary any number will do.
      (value): value is number =>
        Number.isInteger(value) && !((value as number) < -rows || (value as number) >= rows),
    ) ?? NaN;
    return value < 0 ? value + rows : value;
  }

  /** A number above 0, in float32 too: no kernel may see an infinity or a division by zero from here. */
  positive(key: string, absent?: number): number {
    return this.read(
      key,
      "a number above 0 within the range of float32",
      isPositive,
      absent,
    ) ?? NaN;
  }

  /** So many of them. */
  positives(key: string, count: number): number[] {
    return this.read(
      key,
      `${count} numbers above 0 within the range of float32`,
      (value): value is number[] => Array.isArray(value) && value.length === count && value.every(isPositive),
    ) ?? [];
  }

  boolean(key: string): boolean {
    return this.read(key, "true or false", (value) => typeof value === "boolean", false) ?? false;
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
        `${this.prefix}${key}: ${show(value)} is not supported yet; supported: ${supported.join(", ")}`,
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
    this.problem(`${this.prefix}${key}: expected ${expected}, found ${show(this.object[key])}`);
    return undefined;
  }
}

const isPositive = (value: unknown): value is number =>
  typeof value === "number" && Math.fround(value) > 0 && Math.fround(value) < Infinity;
