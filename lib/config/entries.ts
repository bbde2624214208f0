import { isMap, isScalar, LineCounter, type Node, parseDocument } from "npm:yaml@^2.9.1";

/** A key as it was written, with its value as plain data (mappings as Map) and where both stand. */
export interface Entry {
  key: string;
  value: unknown;
  /**
   * Where the key stands, with what a message says before its own words: `run.yaml:3:1: beta` or `--beta`.
   */
  at: string;
  /** The same for the value. */
  valueAt: string;
}

/** What a text holds, and all that is wrong with its form. */
export interface Entries {
  entries: Entry[];
  problems: string[];
}

/** Reads the keys and values of a YAML file whose top is a mapping; `file` names it in messages. */
export function readEntries(text: string, file: string): Entries {
  const lines = new LineCounter();
  const document = parseYaml(text, lines);
  if (typeof document === "string") return { entries: [], problems: [`${file}: ${document}`] };
  const position = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const problems: string[] = [];
  let readable = true;
  for (const error of document.errors) {
    const duplicate = error.code === "DUPLICATE_KEY";
    readable &&= duplicate;
    const message = duplicate
      ? "this key is written twice: keep one"
      : `not valid YAML: ${firstLine(error.message)}`;
    problems.push(`${position(error.pos[0])}: ${message}`);
  }
  if (!readable) return { entries: [], problems };
  const top = document.contents;
  if (!isMap<Node, Node | null>(top)) {
    const found = top === null ? "nothing" : isScalar(top) ? "a single value" : "a list";
    problems.push(`${position(top?.range?.[0] ?? 0)}: expected a mapping of keys to values, found ${found}`);
    return { entries: [], problems };
  }
  const entries = new Map<string, Entry>();
  for (const { key: keyNode, value: valueNode } of top.items) {
    const keyPosition = position(keyNode?.range?.[0] ?? 0);
    if (!isScalar(keyNode) || typeof keyNode.value !== "string") {
      problems.push(`${keyPosition}: expected a key that is text`);
      continue;
    }
    const key = keyNode.value;
    if (entries.has(key)) continue;
    const valuePosition = valueNode?.range ? position(valueNode.range[0]) : keyPosition;
    const valueAt = `${valuePosition}: ${key}`;
    try {
      const value = valueNode?.toJS(document, { mapAsMap: true, maxAliasCount: 100 }) ?? null;
      entries.set(key, { key, value, at: `${keyPosition}: ${key}`, valueAt });
    } catch (error) {
      problems.push(`${valueAt}: not valid YAML: ${firstLine((error as Error).message)}`);
    }
  }
  return { entries: [...entries.values()], problems };
}

/** Reads one YAML value, or says in `problem` why it cannot be read. */
export function readValue(text: string): { value: unknown } | { problem: string } {
  const document = parseYaml(text, new LineCounter());
  if (typeof document === "string") return { problem: document };
  if (document.errors.length > 0) {
    return { problem: `not valid YAML: ${firstLine(document.errors[0].message)}` };
  }
  try {
    return { value: document.toJS({ mapAsMap: true, maxAliasCount: 100 }) ?? null };
  } catch (error) {
    return { problem: `not valid YAML: ${firstLine((error as Error).message)}` };
  }
}

function parseYaml(text: string, lineCounter: LineCounter) {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false, logLevel: "error" });
  } catch (error) {
    // The parser calls itself for every level of nesting.
    if (error instanceof RangeError) return "not valid YAML: nested too deeply";
    throw error;
  }
}

function firstLine(message: string): string {
  return message.split("\n", 1)[0];
}
