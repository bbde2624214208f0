import { isObject, show } from "../text/json.ts";
import type { Fields } from "./fields.ts";

/** A model's tokens and their ids. */
export interface Tokens {
  vocab: Map<string, number>;
  /** How many tokens there are. */
  size: number;
  /** The largest id + 1. */
  end: number;
  tokenOf(id: number): string | undefined;
}

/** What makes ids of a piece. */
export interface Model extends Tokens {
  /** @throws {UserError} where an unknown token is needed and there is none. */
  idsOf(piece: string): number[];
  /** Whether a piece may be cut in front of each run of "▁" without a change of its ids. */
  wordsApart?: boolean;
}

/** Ids are numbers of 32 bits; those that are looked up in pairs have 26. */
const MOST_IDS = 2 ** 26;

/** `vocab`: an id for each token; of a Unigram model, tokens in the order of their ids. */
export function readTokens(fields: Fields): Tokens {
  const { vocab: written } = fields.json;
  if (Array.isArray(written)) return listed(fields, written);
  if (!isObject(written)) throw fields.refusal(`expected vocab, an object, found ${show(written)}`);
  const vocab = new Map<string, number>();
  let end = 0;
  for (const [token, id] of Object.entries(written)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= MOST_IDS || !token.isWellFormed()) {
      throw fields.refusal(
        `vocab: expected Unicode text and an id below ${MOST_IDS}, found ${show(token)}: ${show(id)}`,
      );
    }
    vocab.set(token, id as number);
    end = Math.max(end, id as number + 1);
  }
  let texts: Map<number, string> | undefined;
  const tokenOf = (id: number) => {
    texts ??= new Map([...vocab].map(([token, id]) => [id, token]));
    return texts.get(id);
  };
  return { vocab, size: vocab.size, end, tokenOf };
}

function listed(fields: Fields, written: unknown[]): Tokens {
  const vocab = new Map<string, number>();
  for (const [id, entry] of written.entries()) {
    const [token, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof token !== "string" || typeof score !== "number" || !token.isWellFormed()) {
      throw fields.refusal(`vocab[${id}]: expected a token and its score, found ${show(entry)}`);
    }
    vocab.set(token, id);
  }
  const tokenOf = (id: number) => (written[id] as [string, number] | undefined)?.[0];
  return { vocab, size: written.length, end: written.length, tokenOf };
}
