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

/** The module `key_types.ts`: the types of all keys, each with what it means, so that an editor shows it. */
export function keyTypes(): string {
  const entries = FIELDS.map((field) => ({ field, ...(KEYS[field] as Key<unknown>) }));
  const property = (name: string, doc: string, type: string) => `${comment(doc)}  ${name}: ${type};\n`;
  const keys = entries.map(({ field, doc, type, required, default: value }) => {
    // Rows of a script stand for it.
    const isRequired = required && field !== "datasetMixer";
    const standard = required
      ? ` Required${isRequired ? "" : ", unless `train` is given rows"}.`
      : value === undefined
      ? ""
      : ` By default ${code(describe(value))}.`;
    return property(`${keyOf(field)}${isRequired ? "" : "?"}`, doc + standard, type.typescript);
  });
  const fields = entries.map(({ field, doc, type, required, follows, default: value }) => {
    const isCertain = required || follows || value !== undefined;
    return property(
      field,
      doc,
      CHECKED[type.typescript] ?? type.typescript + (isCertain ? "" : " | undefined"),
    );
  });
  return `// Written by \`deno task keys\` from the table in keys.ts.
import type { DatasetShare } from "./values.ts";

/** The keys of a run file with their values, as a script writes them. */
export interface RunKeys {
${keys.join("")}}

/** A checked run file: the fields are its keys in camelCase. */
export interface TrainConfig {
${fields.join("")}}
`;
}

const LONGEST_LINE = 110;

/** A comment of a property, in as many lines as it takes. */
function comment(doc: string): string {
  if (doc.length + "  /**  */".length <= LONGEST_LINE) return `  /** ${doc} */\n`;
  const lines = [""];
  for (const word of doc.split(" ")) {
    const line = lines[lines.length - 1];
    if (line.length + word.length + "   *  ".length <= LONGEST_LINE) {
      lines[lines.length - 1] = `${line} ${word}`;
    } else lines.push(` ${word}`);
  }
  return `  /**\n${lines.map((line) => `   *${line}\n`).join("")}   */\n`;
}

/** What a checked configuration has in place of what a script writes. */
const CHECKED: Readonly<Record<string, string>> = {
  "Record<string, number>": "DatasetShare[]",
  "Record<string, string>": "ReadonlyMap<string, string> | undefined",
  "number | string": "number | undefined",
  "string | readonly string[]": 'readonly "tensorboard"[]',
};

function code(text: string): string {
  return `\`${text}\``;
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(head) + line(head.map(() => "---")) + rows.map(line).join("");
}
