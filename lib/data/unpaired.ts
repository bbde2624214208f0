/** Unpaired preference data: single responses that were judged, as KTO (arXiv 2402.01306) reads them. */
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { withoutPrompt } from "./implicit_prompt.ts";
import { type DataSet, readMixer } from "./read.ts";
import type { Row } from "./row.ts";
import { canonicalRow, isFilled } from "./shapes.ts";
import type { StoredRow } from "./store_write.ts";

/** Rows of which TRL's `unpair_preference_dataset` writes all chosen responses before all rejected ones. */
const UNPAIRED_AT_A_TIME = 1000;

/**
 * Whether the rows of a split are single responses that were judged, by its first: one with a label, that is no pair.
 */
export async function hasJudgedRows(mixer: readonly DataSet[], split: string): Promise<boolean> {
  for await (const { row } of readMixer(mixer, split)) {
    if (isPair(row)) return false;
    return typeof row.label === "boolean" || (isFilled(row.label) && isFilled(row.completion));
  }
  return false;
}

/**
 * Rows of single responses, in `chosen`, with what was said of each: from rows with `completion` and `label` as they
 * come, and from pairs as TRL parts them, of each 1,000 all chosen responses, desirable, then all rejected ones,
 * undesirable. So neighbours answer other prompts.
 *
 * @param hasTemplate whether transcripts become messages: see `withoutPrompt`.
 * @throws {UserError} with its place, for the first row that has neither a label nor a pair.
 */
export async function* judgedRows(rows: AsyncIterable<Row>, hasTemplate: boolean): AsyncGenerator<Row> {
  let pairs: [chosen: Row, rejected: Row][] = [];
  const parted = () => [0, 1].flatMap((side) => pairs.map((pair) => pair[side]));
  for await (const row of rows) {
    let judged: Row | undefined;
    try {
      const pair = pairOfRow(row, hasTemplate);
      if (pair) pairs.push(pair);
      else judged = judgedRow(row);
    } catch (error) {
      throw error instanceof UserError ? new UserError(`${row.where}: ${error.message}`) : error;
    }
    if (!judged && pairs.length < UNPAIRED_AT_A_TIME) continue;
    yield* parted();
    pairs = [];
    if (judged) yield judged;
  }
  yield* parted();
}

function judgedRow({ row, ...at }: Row): Row {
  const { label, ...canonical } = canonicalRow(row, { usesRejected: false, isJudged: true });
  if (typeof label === "boolean") return { ...at, row: canonical, desirable: label };
  const found = label === undefined ? "none" : show(label);
  throw new UserError(
    `label: expected true or false, whether the response is a good one, found ${found}: a row has prompt, completion ` +
      "and label, or is a pair of chosen and rejected",
  );
}

const isPair = (row: Row["row"]) =>
  isFilled(row.rejected) || (Array.isArray(row.output) && !isFilled(row.chosen));

/** Both responses of a pair as rows of their own after the prompt that they share; undefined for a row of one. */
function pairOfRow({ row, ...at }: Row, hasTemplate: boolean): [Row, Row] | undefined {
  if (!isPair(row)) return undefined;
  const whole = withoutPrompt(canonicalRow(row, { usesRejected: true }), hasTemplate, true);
  const { chosen, rejected, ...others } = whole;
  if (Array.isArray(chosen) !== Array.isArray(rejected)) {
    throw new UserError(
      `rejected: expected ${Array.isArray(chosen) ? "a list of messages" : "text"}, as chosen is, found ${
        show(rejected)
      }`,
    );
  }
  const isWhole = Array.isArray(chosen) && !Array.isArray(others.prompt);
  const prompt = isWhole ? chosen.slice(0, -1) : others.prompt;
  const part = (response: unknown, desirable: boolean): Row => ({
    ...at,
    row: { ...others, prompt, chosen: isWhole ? (response as unknown[]).slice(-1) : response },
    desirable,
  });
  return [part(chosen, true), part(rejected, false)];
}

/**
 * Examples with what KTO estimates its reference point from: in `rejected` another response after each one's prompt. Of
 * every `perBatch` examples each gets that of the one before it, and the first that of the last, as TRL's KTOTrainer
 * turns them; what is longer than `maxLength` is cut at its end.
 */
export async function* withKl(
  rows: AsyncIterable<StoredRow>,
  perBatch: number,
  maxLength: number,
): AsyncGenerator<StoredRow> {
  let batch: StoredRow[] = [];
  const turned = () =>
    batch.map((row, i): StoredRow => {
      const { chosen } = row.pair;
      const { ids, promptLength } = batch.at(i - 1)!.pair.chosen;
      const mixed = [...chosen.ids.slice(0, chosen.promptLength), ...ids.slice(promptLength)];
      const rejected = { ids: mixed.slice(0, maxLength), promptLength: chosen.promptLength };
      return { ...row, pair: { ...row.pair, rejected } };
    });
  for await (const row of rows) {
    batch.push(row);
    if (batch.length < perBatch) continue;
    yield* turned();
    batch = [];
  }
  yield* turned();
}
