import type { ValueType } from "../config/values.ts";
import { ApiError } from "./api_error.ts";

/** The fields of a request; those that nothing asks for are ignored. */
export class RequestFields {
  constructor(readonly json: Record<string, unknown>) {}

  /**
   * The value of a field; null is as if it were not there.
   * @throws {ApiError} for one of another type.
   */
  get<T>(name: string, type: ValueType<T>): T | undefined {
    const value = this.json[name] ?? undefined;
    if (value === undefined) return undefined;
    const read = type.read(value);
    if (read === undefined) throw ApiError.expected(name, type.expected, value);
    return read;
  }

  /** A text, or some of them, none empty. */
  texts(name: string, most: number): string[] {
    const value = this.json[name] ?? [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    const isRight = list.length <= most && list.every((item) => typeof item === "string" && item !== "");
    if (!isRight) throw ApiError.expected(name, `a text or a list of at most ${most}, none empty`, value);
    return list as string[];
  }

  /**
   * Refuses what would change an answer and is not done here; what asks for nothing may stand.
   * @param name a field whose empty values, and those of `harmless`, ask for nothing.
   */
  refuse(name: string, why: string, harmless: (value: unknown) => boolean = () => false): void {
    const value = this.json[name] ?? undefined;
    const isEmpty = value === undefined || value === "" ||
      typeof value === "object" && Object.keys(value as object).length === 0;
    if (!isEmpty && !harmless(value)) {
      throw new ApiError(400, `${name}: not supported: ${why}`, {
        param: name,
        code: "unsupported_parameter",
      });
    }
  }
}
