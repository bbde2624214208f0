import { MIXTURE, MIXTURE_DOC } from "./mixture.ts";
import { IGNORED, REFUSED } from "./other_keys.ts";
import { FIELDS, keyOf, KEYS } from "./schema.ts";
import type { Key } from "./key.ts";
import { describe } from "./values.ts";

/**
 * All keys of a run file as Markdown tables: those followed, those rewritten, those ignored with the reason, those refused.
 */
export function configReference(): string {
  const followed = FIELDS.map((field) => {
    const { doc, type, required, aliases, default: value, mayChange }: Key<unknown> = KEYS[field];
    const names = [keyOf(field), ...aliases ?? []].map(code).join(", ");
    const standard = required ? "required" : value === undefined ? "" : code(describe(value));
    return [names, type.expected, standard, mayChange ? "may change" : "", doc];
  });
  return [
    table(["key", "value", "default", "resume", "meaning"], followed),
    table(["rewritten key", "meaning"], [[code(MIXTURE), MIXTURE_DOC]]),
    table(["ignored key", "why"], Object.entries(IGNORED).map(([key, why]) => [code(key), why])),
    table(
      ["refused key", "allowed", "why"],
      Object.entries(REFUSED).map(([key, { allowed, why }]) => [
        code(key),
        allowed.length > 0 ? allowed.map((value) => code(describe(value))).join(", ") : "nothing",
        why,
      ]),
    ),
  ].join("\n");
}

function code(text: string): string {
  return `\`${text}\``;
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(head) + line(head.map(() => "---")) + rows.map(line).join("");
}
