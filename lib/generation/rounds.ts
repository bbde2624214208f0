/** What passes are made of: the tokens of the answers in hand, and what is asked of them. */
import { ATTENTION_TILE } from "../../kernels/attention.ts";
import type { Rows } from "./cache_rows.ts";
import type { Channel } from "./channel.ts";
import type { PassLabel, PassToken } from "./pass.ts";
import type { GeneratedToken, GenerationRequest, Sampling } from "./request.ts";

/** A request in hand. */
export interface Answer {
  readonly request: GenerationRequest;
  readonly out: Channel<GeneratedToken>;
  /** Prompt and answer so far. */
  readonly ids: number[];
  /** How many of them have their keys and values in the cache. */
  done: number;
  rows: Rows;
  /** Its row of `seen`. */
  seen: number;
}

/** Whether more of it than its last token is to be read. */
export const isAtPrompt = ({ done, ids, request }: Answer): boolean =>
  done < ids.length - 1 || ids.length === request.ids.length;

export const isPenalised = ({ repetitionPenalty, presencePenalty, frequencyPenalty }: Sampling): boolean =>
  repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;

/** @param of `place` counts from the tokens that the answer has. */
export function labelOf(
  { request, ids, seen }: Answer,
  { place = 0, ...of }: Pick<PassLabel, "row" | "result" | "target"> & { place?: number },
): PassLabel {
  const { sampling, top } = request;
  return {
    ...of,
    sampling,
    top,
    place: ids.length - request.ids.length + place,
    ...(isPenalised(sampling) ? { seen } : {}),
  };
}

/** Tokens of prompts, and which of them belong to an answer. */
export interface PromptRound {
  ids: number[];
  places: Omit<PassToken, "id">[];
  labels: PassLabel[];
  /** `count` more tokens of an answer, with its labels. */
  parts: { answer: Answer; count: number; labels: PassLabel[] }[];
}

/**
 * As much as fits into `tokens`, a multiple of `ATTENTION_TILE`, of what is left of prompts that have the same rotary
 * tables. Each begins with a tile: what is computed of it does not depend on the others.
 */
export function promptRound(running: readonly Answer[], tokens: number): PromptRound {
  const round: PromptRound = { ids: [], places: [], labels: [], parts: [] };
  const { ids, places, labels, parts } = round;
  const waiting = running.filter(isAtPrompt);
  for (const answer of waiting.filter(({ rows }) => rows.tables === waiting[0].rows.tables)) {
    const { request, rows, done } = answer;
    const count = Math.min(answer.ids.length - done, tokens - ids.length);
    if (count === 0) break;
    const isEchoed = request.echo && answer.ids.length === request.ids.length;
    const own: PassLabel[] = [];
    for (let position = done; position < done + count; position++) {
      const isLast = position === answer.ids.length - 1;
      if (isLast ? request.maxNewTokens > 0 : isEchoed) {
        const target = isLast ? undefined : answer.ids[position + 1];
        own.push(labelOf(answer, { row: ids.length, result: labels.length + own.length, target }));
      }
      ids.push(answer.ids[position]);
      places.push({ position, first: rows.first });
    }
    labels.push(...own);
    parts.push({ answer, count, labels: own });
    // What fills up the tile does again what the last token does.
    while (ids.length % ATTENTION_TILE > 0) {
      ids.push(ids.at(-1)!);
      places.push(places.at(-1)!);
    }
  }
  return round;
}
