/** What the attention kernels share whose threads keep rows in registers: see `RegisterTile`. */
import type { AttentionShape, RegisterTile } from "./attention.ts";
import { lines, range } from "./emit.ts";
import { elementWidth } from "./prelude.ts";

/** Threads of a workgroup, which share nothing: the lanes of a processor's vector. */
export const REGISTER_WORKGROUP = 8;

/** Rows that a thread keeps: of `tokens` tokens, for `members` of the query heads that share keys and values. */
export interface ThreadRows {
  tokens: number;
  members: number;
}

/** The keys of a thread, which count once for all query heads. */
export const keysOfThread = ({ headDim }: AttentionShape, { rows, floats }: RegisterTile): number =>
  Math.max(1, Math.min(rows, Math.floor(floats / headDim)));

/** The queries of a thread: as many members of a group as divide it, since they read the same keys. */
export function queriesOfThread(shape: AttentionShape, tile: RegisterTile): ThreadRows {
  const rows = keysOfThread(shape, tile);
  const group = shape.heads / shape.keyValueHeads;
  const members = range(rows + 1).findLast((n) => n > 0 && group % n === 0)!;
  return { tokens: Math.min(tile.tokens ?? rows, Math.floor(rows / members)), members };
}

/** Elements `E` of a head's row. */
export const columnsOf = ({ headDim }: AttentionShape): number => headDim / elementWidth(headDim);

/** A tensor [rows, `stride`] at `binding`, with a function `NAME_at(row, column)` that reads it. */
export const operand = (
  name: string,
  binding: number,
  stride: "QUERY_STRIDE" | "KEY_STRIDE" | "OUT_STRIDE",
  memory: RegisterTile["memory"],
) =>
  memory === "texture"
    ? `@group(0) @binding(${binding}) var ${name}: texture_storage_2d<rgba32float, read>;
fn ${name}_at(row: u32, column: u32) -> E { return textureLoad(${name}, vec2u(column, row)); }`
    : `@group(0) @binding(${binding}) var<storage, read> ${name}: array<E>;
fn ${name}_at(row: u32, column: u32) -> E { return ${name}[row * ${stride} + column]; }`;

/** Declares zeroed variables `NAMEr_d` for rows r and columns d. */
export const zeros = (name: string, rows: number, columns: number): string =>
  lines(rows, (r) => "  " + range(columns).map((d) => `var ${name}${r}_${d} = E();`).join(" "));

/**
 * Reads whole rows into variables `NAMEr_d`: each step of the loop moves a row's variables down by one and puts the
 * next column in at the end. Straight-line reads would take minutes to compile, as the driver makes branches for
 * each.
 */
export function readRows(
  rows: number,
  columns: number,
  reads: Record<string, (row: number) => string>,
  alsoEach: (row: number) => string = () => "",
): string {
  const names = Object.keys(reads);
  return `${names.map((name) => zeros(name, rows, columns)).join("\n")}
  for (var d = 0u; d < COLUMNS; d += 1u) {
${
    names.map((name) =>
      lines(rows, (r) =>
        `    ${
          range(columns - 1).map((d) =>
            `${name}${r}_${d} = ${name}${r}_${d + 1};`
          ).join(" ")
        } ${name}${r}_${columns - 1} = ${reads[name](r)};`)
    ).join("\n")
  }
${lines(rows, alsoEach)}
  }`;
}

/** Variable `NAMEr_d` of column d, which is not constant: a tree of selections, as `readRows` is a loop. */
export function column(name: string, row: number, first: number, end: number): string {
  if (end - first === 1) return `${name}${row}_${first}`;
  const middle = (first + end) >> 1;
  return `select(${column(name, row, middle, end)}, ${column(name, row, first, middle)}, d < ${middle}u)`;
}

/**
 * A thread's place among queries: `token0`..., their rows among the keys, spans, `kv_head` and `head`, that of its
 * first member.
 */
export const queryPlace = ({ tokens, members }: ThreadRows): string => `
  let last = rows.count - 1u;
  let first_token = id.x * ${tokens}u;
  if (first_token > last) { return; }
  let kv_head = id.y / (GROUP / ${members}u);
  let head = id.y * ${members}u;
${
  lines(tokens, (t) =>
    `  let token${t} = min(first_token + ${t}u, last); let own${t} = own_row(token${t});
  let span${t} = spans[token${t}];`)
}`;

/**
 * Calls `body` for the keys that any of a thread's queries sees, `block` at a time: its two intervals, one after the
 * other (`key0`, ...; at the end some are beyond it, and then `inside0`, ... is false).
 */
export const forEachKey = ({ tokens }: ThreadRows, block: number, body: string): string => `
  var prefix = 0xffffffffu;
  var prefix_end = 0u;
  var own = 0xffffffffu;
${
  lines(tokens, (t) =>
    `  if (span${t}.x < span${t}.y) { prefix = min(prefix, span${t}.x); prefix_end = max(prefix_end, span${t}.y); }
  if (span${t}.z <= own${t}) { own = min(own, span${t}.z); }`)
}
  // Over a cache of keys the second interval is empty, and may not move where the pairs of keys begin.
  var end = select(0u, own${tokens - 1} + 1u, own != 0xffffffffu);
  own = min(own, end);
  // A key in both intervals would count twice.
  if (prefix_end > prefix && prefix_end >= own && end > own) {
    own = min(prefix, own);
    end = max(prefix_end, end);
    prefix_end = 0u;
  }
  let length = select(0u, prefix_end - prefix, prefix_end > prefix);
  let total_keys = length + end - own;
  let last_key = key_rows.count - 1u;
  for (var n = 0u; n < total_keys; n += ${block}u) {
${
  lines(block, (c) =>
    `    let inside${c} = n + ${c}u < total_keys;
    let key${c} = min(select(own + n + ${c}u - length, prefix + n + ${c}u, n + ${c}u < length), last_key);`)
}
${body}
  }`;
