import { isDeepStrictEqual } from "node:util";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { asMessages } from "./messages_of_other_tools.ts";
import type { Renames } from "./row.ts";
import { taskOf, type TaskOptions } from "./tasks.ts";

/** What the loss reads. */
export interface ShapeOptions extends TaskOptions {
  /** Whether it looks at `rejected`; if not, `messages` or `completion` may stand for `chosen`. */
  usesRejected: boolean;
}

/** The columns that `render` reads. */
const CANONICAL = ["prompt", "chosen", "rejected", "messages", "tools", "documents"] as const;

/** The columns that are turned into those. */
const OTHER_SHAPES = ["conversations", "instruction", "input", "output", "history", "system", "completion"];

/** Bytes, which no message takes; that there are some is all that is told. */
const IMAGES = "images";

/**
 * Columns that well-known sets use for what a response follows from or is judged by, and that no rule here reads
 * unless it has taken them: the prompt (`question`, `query`: Intel's orca_dpo_pairs, stack-exchange-paired;
 * `instruction`, `input`: Alpaca, Capybara; `context`, `history`: SHP, HelpSteer), what a template is told (`system`,
 * `tools`, `documents`, `images`), and what says which response is better (`label`, `labels`: KTO, SHP; `preference`,
 * `winner`, `better_response_id`: PKU-SafeRLHF).
 */
const MEANINGFUL: Readonly<Record<string, string>> = {
  question: "prompt",
  query: "prompt",
  instruction: "prompt",
  instructions: "prompt",
  input: "prompt",
  inputs: "prompt",
  user: "prompt",
  user_input: "prompt",
  context: "prompt",
  post: "prompt",
  conversations: "prompt",
  conversation: "prompt",
  history: "",
  system: "",
  system_prompt: "",
  tools: "tools",
  functions: "tools",
  documents: "documents",
  [IMAGES]: "",
  label: "",
  labels: "",
  preference: "",
  winner: "",
  better_response_id: "",
};

/** The columns that are looked at; what stands in others is never needed. */
const LOOKED_AT: ReadonlySet<string> = new Set([
  ...CANONICAL,
  ...OTHER_SHAPES,
  ...Object.keys(MEANINGFUL),
]);

/** Those of them that hold responses: where prompt, chosen and rejected are there, they are not looked at. */
const SPARE: ReadonlySet<string> = new Set(["messages", "completion", "output"]);

/** The columns of a columnar file that are read, and in place of those left on the disk what a message may name. */
export function columnsToRead(
  names: readonly string[],
  renames: Renames = new Map(),
): { columns: string[]; others: Record<string, unknown> } {
  const isWhole = ["prompt", "chosen", "rejected"].every((name) =>
    names.some((own) => (renames.get(own) ?? own) === name)
  );
  const isRead = (name: string) => LOOKED_AT.has(name) && name !== IMAGES && !(isWhole && SPARE.has(name));
  const columns = names.filter((name) => renames.has(name) || isRead(name));
  const others = names.filter((name) => !columns.includes(name) && (!isWhole || name === IMAGES));
  return { columns, others: Object.fromEntries(others.map((name) => [name, "(not read)"])) };
}

/**
 * A row of any shape that is read, as the row that `render` reads. What was taken from another column is no longer
 * under its name, so that `rowNotices` finds those that were not.
 *
 * - ShareGPT: messages `{from, value}` in any column, `conversations` as the prompt of `chosen` and `rejected`, or as
 *   `messages`; `chosen` and `rejected` may be one message each.
 * - Alpaca: `instruction`, and `input` after a new line, as the user's turn, as LLaMA-Factory has it; `output` as the
 *   response, or a list of the chosen and the rejected one.
 * - Of both, `system` as the first message and `history` (pairs of texts) as turns before.
 * - `prompt` as text with message lists that hold no user's turn: as that turn.
 * - `prompt` and `completion`, where the loss has no rejected response.
 *
 * @throws {UserError} for a row of another task, by its name, and for one that lacks a response.
 */
export function canonicalRow(
  row: Readonly<Record<string, unknown>>,
  options: ShapeOptions,
): Record<string, unknown> {
  const { usesRejected } = options;
  const shaped: Record<string, unknown> = { ...row };
  for (const key of ["prompt", "chosen", "rejected", "messages", "conversations", "completion"]) {
    // A Parquet file's column that was left on the disk is no text of messages.
    if (isFilled(shaped[key])) shaped[key] = asMessages(shaped[key], key);
  }
  alpaca(shaped);
  shareGpt(shaped, usesRejected);
  if (
    !usesRejected && !isFilled(shaped.chosen) && !isFilled(shaped.messages) && isFilled(shaped.completion)
  ) {
    shaped.chosen = shaped.completion;
    delete shaped.completion;
  }
  if (
    options.isJudged && !isFilled(shaped.chosen) && !isFilled(shaped.messages) && shaped.completion === ""
  ) {
    throw new UserError(
      "completion: expected text or a list of messages, found an empty text: remove the row",
    );
  }
  checkResponses(shaped, options);
  userTurn(shaped, usesRejected);
  return shaped;
}

const isOf = (role: string) => (message: unknown) => isObject(message) && message.role === role;

/** Whether there is a value; null and an empty text are what tables have in place of none. */
export const isFilled = (value: unknown) => value !== undefined && value !== null && value !== "";

function take(row: Record<string, unknown>, key: string): unknown {
  const value = row[key];
  delete row[key];
  return value;
}

function alpaca(row: Record<string, unknown>): void {
  if (isFilled(row.prompt) || isFilled(row.messages) || isFilled(row.conversations)) return;
  if (typeof row.instruction !== "string") return;
  const { output } = row;
  if (!isFilled(row.chosen) && !isFilled(row.rejected)) {
    const isPair = Array.isArray(output) && output.length === 2 &&
      output.every((one) => typeof one === "string");
    if (isPair) [row.chosen, row.rejected] = output;
    else if (typeof output === "string") row.chosen = output;
    else return;
    delete row.output;
  }
  const isText = [row.chosen, row.rejected].every((value) => !isFilled(value) || typeof value === "string");
  if (!isText) return;
  const texts = [take(row, "instruction"), take(row, "input")].filter(isFilled);
  row.prompt = [...before(row), { role: "user", content: texts.join("\n") }];
  answers(row);
}

function shareGpt(row: Record<string, unknown>, usesRejected: boolean): void {
  const key = Array.isArray(row.conversations)
    ? "conversations"
    : Array.isArray(row.messages)
    ? "messages"
    : undefined;
  if (key === undefined) return;
  const isPair = isFilled(row.chosen) && (isFilled(row.rejected) || !usesRejected);
  const messages = row[key] as unknown[];
  // Beside whole conversations, or with its own answer at the end, it is not their prompt.
  const responses = usesRejected ? [row.chosen, row.rejected] : [row.chosen];
  const isPrompt = !isFilled(row.prompt) && !isOf("assistant")(messages.at(-1)) &&
    !responses.some((response) => Array.isArray(response) && response.some(isOf("user")));
  if (isPair ? !isPrompt : key === "messages") return;
  delete row[key];
  const all = [...before(row, isObject(messages[0]) && messages[0].role === "system"), ...messages];
  row[isPair ? "prompt" : "messages"] = all;
  if (isPair) answers(row);
}

/** The turns that `system` and `history` put before a prompt. */
function before(row: Record<string, unknown>, hasSystem = false): unknown[] {
  const turns: unknown[] = [];
  if (!hasSystem && typeof row.system === "string") {
    const content = take(row, "system");
    if (content !== "") turns.push({ role: "system", content });
  }
  const { history } = row;
  const isPairs = Array.isArray(history) &&
    history.every((turn) =>
      Array.isArray(turn) && turn.length === 2 &&
      turn.every((text) => typeof text === "string")
    );
  if (isPairs) {
    delete row.history;
    for (const [content, answer] of history) {
      turns.push({ role: "user", content }, { role: "assistant", content: answer });
    }
  }
  return turns;
}

/** Texts as the messages of the assistant that they are beside a prompt of messages. */
function answers(row: Record<string, unknown>): void {
  for (const key of ["chosen", "rejected"]) {
    if (typeof row[key] === "string") row[key] = [{ role: "assistant", content: row[key] }];
  }
}

function checkResponses(row: Record<string, unknown>, options: ShapeOptions): void {
  const { usesRejected } = options;
  const isThere = (key: string) => row[key] !== undefined && row[key] !== null;
  if (!usesRejected && (isThere("chosen") || isThere("messages"))) return;
  const single = options.isJudged ? "completion" : "chosen";
  const missing = (usesRejected ? ["chosen", "rejected"] : [single]).find((key) => !isThere(key));
  if (missing === undefined) return;
  if (row[missing] === null && (missing === "rejected" ? isThere("chosen") : isThere("rejected"))) {
    throw new UserError(`${missing}: expected text or a list of messages, found null: remove the row`);
  }
  throw new UserError(taskOf(row, missing, options));
}

/** Puts a `prompt` of text before responses that are no whole conversations. */
function userTurn(row: Record<string, unknown>, usesRejected: boolean): void {
  const keys = usesRejected ? ["chosen", "rejected"] : ["chosen"];
  const lists = keys.map((key) => row[key]);
  if (typeof row.prompt !== "string" || row.prompt === "" || !lists.every(Array.isArray)) return;
  if (lists.some((list) => (list as unknown[]).some(isOf("user")))) return;
  // A system message comes before the user's, and belongs to the prompt.
  const [first] = lists[0] as unknown[];
  const isShared = isOf("system")(first) &&
    lists.every((list) => isDeepStrictEqual((list as unknown[])[0], first));
  const system = isShared ? [first] : [];
  keys.forEach((key, i) => row[key] = (lists[i] as unknown[]).slice(system.length));
  row.prompt = [...system, { role: "user", content: row.prompt }];
}

/**
 * What may not be meant in a row that `canonicalRow` made: a clause for each, which begins with what is noticed and
 * says what to do about it. Each is the same for every row that has it.
 */
export function rowNotices(row: Readonly<Record<string, unknown>>): string[] {
  const notices: string[] = [];
  const isMessages = Array.isArray(row.prompt) || Array.isArray(row.chosen) || Array.isArray(row.messages);
  const hasPrompt = isFilled(row.prompt) || isMessages;
  for (const [name, target] of Object.entries(MEANINGFUL)) {
    if (!Object.hasOwn(row, name) || !isFilled(row[name])) continue;
    // A template of messages is handed these.
    if (isMessages && (name === "tools" || name === "documents")) continue;
    const fix = target !== "" && target !== name && !hasPrompt
      ? `column_mapping: {${name}: ${target}} makes it the ${target}`
      : target === name
      ? "it is handed to the chat template where rows are lists of messages"
      : "put what it says into the prompt where it matters";
    notices.push(`the column ${show(name)} is not read: ${fix}`);
  }
  if (repeatsPrompt(row)) {
    notices.push(
      "chosen and rejected begin with the messages of prompt, which then stand twice and are trained on as " +
        "responses: leave prompt out, or leave its messages out of chosen and rejected",
    );
  }
  return notices;
}

function repeatsPrompt({ prompt, chosen, rejected }: Readonly<Record<string, unknown>>): boolean {
  if (!Array.isArray(prompt) || prompt.length === 0) return false;
  const lists = [chosen, rejected].filter(Array.isArray);
  return lists.length > 0 && lists.every((list) => isDeepStrictEqual(list.slice(0, prompt.length), prompt));
}
