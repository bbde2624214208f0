import { show } from "../text/json.ts";
import type { Fields } from "./fields.ts";
import { literal, type Pattern, pattern } from "./regex.ts";
import { PatternError } from "./oniguruma.ts";

/** The pattern of a component, a text or a regular expression. */
export function readPattern(fields: Fields, key: string): Pattern {
  const { kind, text } = fields.pattern(key);
  if (kind === "String") return literal(text);
  try {
    return pattern(text);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw fields.refusal(
      `${key}: the regular expression ${show(text)} is not supported: ${error.message}`,
    );
  }
}
