import assert from "node:assert/strict";
import { parseConfig, type ParsedConfig } from "../lib/config/parse.ts";
import { UserError } from "../lib/errors.ts";

/** The required keys. */
export const BASE = "model_name_or_path: model\ndataset_mixer: {data/a.jsonl: 1.0}\n";

/** The lines of the one error that the text must give. */
export function mistakes(text: string, ...overrides: string[]): string[] {
  try {
    parseConfig(text, "run.yaml", overrides);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.status, 2);
    return error.message.split("\n");
  }
  assert.fail("no error");
}

/** What the required keys and `lines` give. */
export function parsed(lines: string, ...overrides: string[]): ParsedConfig {
  return parseConfig(BASE + lines, "run.yaml", overrides);
}
