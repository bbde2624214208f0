/** What `--help` prints: made of the tables of commands, options and keys. */
import { GROUPS } from "../config/keys.ts";
import { FIELDS, keyOf, KEYS } from "../config/schema.ts";
import type { Key } from "../config/key.ts";
import { boolean, describe, text } from "../config/values.ts";
import { VERSION } from "../program/version.ts";
import { wrap } from "../text/wrap.ts";
import type { Command, Option } from "./command.ts";

/** Columns where the output is no terminal, and the most that a line has in one: longer ones read badly. */
const [COLUMNS, MOST_COLUMNS] = [80, 100];
/** Columns of what is explained. */
const LEFT = 30;

const COMMON: readonly Option[] = [
  { name: "help", doc: "Show this, and do nothing; so does -h." },
  { name: "version", doc: "Show the version, and do nothing; so does -V." },
];

/** The commands, a line each. */
export function programHelp(
  commands: Readonly<Record<string, { summary: string }>>,
  columns?: number,
): string {
  const width = widthOf(columns);
  return [
    `simper ${VERSION}: preference alignment of language models, on any GPU that WebGPU reaches`,
    "",
    "usage: simper COMMAND [WORDS ...]",
    "",
    ...Object.entries(commands).flatMap(([name, { summary }]) => rows(`  ${name}`, summary, width, 14)),
    "",
    ...wrap(
      "`simper COMMAND --help` says what a command takes; --version (-V) which version this is.",
      width,
    ),
  ].join("\n");
}

/** What a command takes: its own options first, then the keys of a run file by group. */
export function commandHelp(
  name: string,
  { summary, command }: { summary: string; command: Command },
  columns?: number,
): string {
  const width = widthOf(columns);
  const { usage, about, options = [], takesRunFile, runFile = "tiny.yaml" } = command;
  const lines = [
    `usage: simper ${name}${usage ? ` ${usage}` : ""}`,
    "",
    ...wrap(`${summary}.${about ? ` ${about}` : ""}`, width),
    "",
    "Options",
    ...[...options, ...COMMON].flatMap(({ name, value, doc }) =>
      rows(`  --${name}${value === undefined ? "" : `=${value}`}`, doc, width)
    ),
  ];
  if (takesRunFile) {
    lines.push(
      "",
      ...wrap(
        `CONFIG is a run file in YAML, or the name of one that ships with the program, such as ${runFile}` +
          `${takesRunFile === "named" ? "" : " (the default)"}. ` +
          "Its keys, each of which --key=value overrides:",
        width,
      ),
    );
    for (const field of FIELDS) {
      if (Object.hasOwn(GROUPS, field)) lines.push("", GROUPS[field]!);
      lines.push(...rows(`  --${keyOf(field)}`, meaning(KEYS[field]), width));
    }
  }
  return lines.join("\n");
}

function meaning({ doc, type, required, default: value }: Key<unknown>): string {
  const facts = [
    ...required ? ["required"] : [],
    ...type === text || type === boolean ? [] : [type.expected],
    ...value === undefined ? [] : [`default ${describe(value)}`],
  ];
  return plain(facts.length > 0 ? `${doc} [${facts.join("; ")}]` : doc);
}

/** Markdown's code and links, as words alone. */
const plain = (doc: string) => doc.replaceAll(/\[([^\]]+)\]\([^)]*\)/g, "$1").replaceAll("`", "");

const widthOf = (columns?: number) => Math.min(columns || COLUMNS, MOST_COLUMNS);

/** What is explained, with its explanation in a column beside it. */
function rows(left: string, right: string, width: number, column = LEFT): string[] {
  // Where there is no room beside it, below.
  const indent = width >= 2 * column ? column : 6;
  const [first, ...rest] = wrap(plain(right), width - indent);
  const more = rest.map((line) => " ".repeat(indent) + line);
  if (left.length >= indent) return [left, " ".repeat(indent) + first, ...more];
  return [left.padEnd(indent) + first, ...more];
}
