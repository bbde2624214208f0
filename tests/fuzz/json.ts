/** Damage to JSON that keeps its form: what a parser accepts and a reader did not expect. */
import type { Random } from "./random.ts";

/** JSON with what JavaScript's values cannot say: text as it is, and a key that comes twice. */
type Node = Raw | Members | Node[] | string | number | boolean | null;
class Raw {
  constructor(readonly text: string) {}
}
class Members {
  constructor(readonly entries: [string, Node][]) {}
}

const nested = (open: string, close: string, depth: number) =>
  new Raw(open.repeat(depth) + close.repeat(depth));

const NUMBERS = [
  ...[-1, 0, 1, 2, 3, 7, 255, 2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 1e15, 1e300, 0.5, 5e-324],
  ...["-0", "1e999", "-1e999", "9007199254740993", "18446744073709551616", "1E2", "1.0"].map((text) =>
    new Raw(text)
  ),
];
/** Names that mean something to JavaScript, to a file system or to a terminal. */
export const HOSTILE_NAMES = [
  "",
  ".",
  "..",
  "../../evil",
  "../evil.safetensors",
  "..\\evil",
  "/etc/passwd",
  "C:\\evil",
  "C:evil.safetensors",
  "\\\\server\\share",
  "a\0b",
  "NUL",
  "con.json",
  "COM1.safetensors",
  "a.safetensors.",
  "a ",
  "file:///etc/passwd",
  "~/evil",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "length",
  "\u001b]0;evil\u0007",
  "\u009b2J",
  "\u202eevil",
  "\ufeff",
  "\u2028",
  "x".repeat(300),
  "%2e%2e%2fevil",
];
const TEXTS: (string | Raw)[] = [
  ...HOSTILE_NAMES,
  new Raw('"\\ud800"'),
  new Raw('"\\udfff\\ud800"'),
  "x".repeat(200_000),
];
const DEEP = [
  nested("[", "]", 100),
  nested("[", "]", 20_000),
  nested('{"a":', "}", 20_000),
  new Raw(`[${"[],".repeat(5000)}[]]`),
  new Raw(`{${Array.from({ length: 3000 }, (_, i) => `"k${i}":${i}`).join(",")}}`),
];

function hostile(random: Random): Node {
  switch (random.below(6)) {
    case 0:
    case 1:
      return random.pick(NUMBERS);
    case 2:
    case 3:
      return random.pick(TEXTS);
    case 4:
      return random.pick<Node>([null, true, false, [], new Members([])]);
    default:
      return random.chance(0.3) ? random.pick(DEEP) : [random.pick(NUMBERS)];
  }
}

function nodeOf(value: unknown): Node {
  if (Array.isArray(value)) return value.map(nodeOf);
  if (typeof value === "object" && value !== null) {
    return new Members(Object.entries(value).map(([key, item]) => [key, nodeOf(item)]));
  }
  return value as Node;
}

function write(node: Node): string {
  if (node instanceof Raw) return node.text;
  if (node instanceof Members) {
    // A hostile writer does not escape lone surrogates, but then it is no UTF-8 either: `damageBytes` sees to that.
    return `{${node.entries.map(([key, value]) => `${JSON.stringify(key)}:${write(value)}`).join(",")}}`;
  }
  if (Array.isArray(node)) return `[${node.map(write).join(",")}]`;
  return JSON.stringify(node);
}

/** A value within a list or an object, which can be exchanged. */
interface Slot {
  get(): Node;
  set(value: Node): void;
}

function slotsOf(root: Slot): Slot[] {
  const slots: Slot[] = [root];
  // What is reached first may be chosen, so that a long vocabulary does not hide the rest.
  for (let i = 0; i < slots.length && slots.length < 20_000; i++) {
    const node = slots[i].get();
    if (node instanceof Members) {
      for (const entry of node.entries) slots.push({ get: () => entry[1], set: (value) => entry[1] = value });
    } else if (Array.isArray(node)) {
      node.forEach((_, at) => slots.push({ get: () => node[at], set: (value) => node[at] = value }));
    }
  }
  return slots;
}

function damageEntries(random: Random, { entries }: Members, other: Node): void {
  if (entries.length === 0) return void entries.push([random.pick(HOSTILE_NAMES), other]);
  const at = random.below(entries.length);
  switch (random.below(5)) {
    case 0:
      entries.splice(at, 1);
      break;
    case 1:
      entries.push([entries[at][0], random.chance(0.5) ? other : entries[at][1]]);
      break;
    case 2:
      entries[at][0] = random.chance(0.5)
        ? random.pick(HOSTILE_NAMES)
        : entries[random.below(entries.length)][0];
      break;
    case 3:
      entries.push(...entries.splice(at, 1));
      break;
    default:
      entries.push([random.pick(HOSTILE_NAMES), other]);
  }
}

function damageList(random: Random, list: Node[], other: Node): void {
  const at = random.below(list.length + 1);
  switch (random.below(4)) {
    case 0:
      list.splice(at, 1);
      break;
    case 1:
      list.splice(at, 0, other);
      break;
    case 2:
      list.push(...list.splice(0, at));
      break;
    default:
      if (list.length > 0) {
        list.push(...Array<Node>(random.chance(0.9) ? 1 : 300).fill(list[at % list.length]));
      }
  }
}

/** The text of a JSON value with some of its keys, lists and values changed. */
export function damageJson(random: Random, value: unknown): string {
  let root = nodeOf(value);
  // Each change may double the whole.
  for (let i = Math.min(5, random.few()); i > 0; i--) {
    const slots = slotsOf({ get: () => root, set: (value) => root = value });
    // The upper levels have few values and most of the meaning.
    const pick = () =>
      slots[random.chance(0.5) ? random.below(Math.min(24, slots.length)) : random.below(slots.length)];
    const slot = pick();
    const node = slot.get();
    const other = random.chance(0.5) ? pick().get() : hostile(random);
    if (node instanceof Members && random.chance(0.8)) damageEntries(random, node, clone(other));
    else if (Array.isArray(node) && random.chance(0.7)) damageList(random, node, clone(other));
    else if (typeof node === "number" && random.chance(0.5)) {
      slot.set(random.pick([node + 1, node - 1, -node, node * 2, node / 2, node * 2 ** 32, node * node]));
    } else slot.set(clone(other));
  }
  return write(root);
}

function clone(node: Node): Node {
  if (node instanceof Members) return new Members(node.entries.map(([key, value]) => [key, clone(value)]));
  return Array.isArray(node) ? node.map(clone) : node;
}
