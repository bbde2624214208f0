import { isMap, isScalar, LineCounter, type Node, parseDocument, visit, type YAMLMap } from "npm:yaml@^2.9.1";
import { shorten } from "../text/json.ts";

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
  /** Of a mapping that was read from a file, its own keys. */
  entries?: readonly Entry[];
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
    readable = false;
    problems.push(`${position(error.pos[0])}: not valid YAML: ${firstLine(error.message)}`);
  }
  if (!readable) return { entries: [], problems };
  const { aliases, duplicates } = inspect(document);
  if (aliases > MOST_ALIASES) {
    return { entries: [], problems: [`${file}: not valid YAML: more than ${MOST_ALIASES} aliases`] };
  }
  for (const offset of duplicates) {
    problems.push(`${position(offset)}: this key is written twice: keep one`);
  }
  const top = document.contents;
  if (!isMap<Node, Node | null>(top)) {
    const found = top === null ? "nothing" : isScalar(top) ? "a single value" : "a list";
    problems.push(`${position(top?.range?.[0] ?? 0)}: expected a mapping of keys to values, found ${found}`);
    return { entries: [], problems };
  }
  const entriesOf = (map: YAMLMap<Node, Node | null>, within = ""): Entry[] => {
    const entries = new Map<string, Entry>();
    for (const { key: keyNode, value: valueNode } of map.items) {
      const keyPosition = position(keyNode?.range?.[0] ?? 0);
      if (!isScalar(keyNode) || typeof keyNode.value !== "string") {
        // Within a mapping it is for the reader of that to say.
        if (within === "") problems.push(`${keyPosition}: expected a key that is text`);
        continue;
      }
      const key = keyNode.value;
      if (entries.has(key)) continue;
      const valuePosition = valueNode?.range ? position(valueNode.range[0]) : keyPosition;
      const name = within + shorten(key);
      const valueAt = `${valuePosition}: ${name}`;
      try {
        const value = valueNode?.toJS(document, { mapAsMap: true, maxAliasCount: MOST_ALIASES }) ?? null;
        const nested = isMap<Node, Node | null>(valueNode) && within.split(".").length < MOST_NESTED
          ? { entries: entriesOf(valueNode, `${name}.`) }
          : {};
        entries.set(key, { key, value, at: `${keyPosition}: ${name}`, valueAt, ...nested });
      } catch (error) {
        problems.push(`${valueAt}: not valid YAML: ${firstLine((error as Error).message)}`);
      }
    }
    return [...entries.values()];
  };
  return { entries: entriesOf(top), problems };
}

/** Reads one YAML value, or says in `problem` why it cannot be read. */
export function readValue(text: string): { value: unknown } | { problem: string } {
  const document = parseYaml(text, new LineCounter());
  if (typeof document === "string") return { problem: document };
  if (document.errors.length > 0) {
    return { problem: `not valid YAML: ${firstLine(document.errors[0].message)}` };
  }
  const { aliases, duplicates } = inspect(document);
  if (aliases > MOST_ALIASES) return { problem: `not valid YAML: more than ${MOST_ALIASES} aliases` };
  if (duplicates.length > 0) return { problem: "not valid YAML: a key is written twice" };
  try {
    return { value: document.toJS({ mapAsMap: true, maxAliasCount: MOST_ALIASES }) ?? null };
  } catch (error) {
    return { problem: `not valid YAML: ${firstLine((error as Error).message)}` };
  }
}

function parseYaml(text: string, lineCounter: LineCounter) {
  try {
    return parseDocument(text, {
      lineCounter,
      prettyErrors: false,
      logLevel: "error",
      // The library compares every key with every other; `inspect` does not.
      uniqueKeys: false,
      // Sets, binary data and the like: no key of a run file takes one.
      resolveKnownTags: false,
    });
  } catch (error) {
    // The parser calls itself for every level of nesting.
    if (error instanceof RangeError) return "not valid YAML: nested too deeply";
    throw error;
  }
}

/** Levels of mappings whose keys' places are known: those of `compare` are within the second. */
const MOST_NESTED = 3;

/** The library looks through the whole text for what each alias stands for. */
const MOST_ALIASES = 100;

/** How many aliases there are, and where keys stand that their mapping has already. */
function inspect(document: ReturnType<typeof parseDocument>): { aliases: number; duplicates: number[] } {
  let aliases = 0;
  const duplicates: number[] = [];
  visit(document, {
    Alias: () => void aliases++,
    Map: (_, { items }) => {
      const keys = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (keys.has(key.value)) duplicates.push(key.range?.[0] ?? 0);
        keys.add(key.value);
      }
    },
  });
  return { aliases, duplicates };
}

function firstLine(message: string): string {
  return shorten(message.split("\n", 1)[0], 200);
}
