import type { AddedTokens } from "./added_tokens.ts";
import type { Normalizer } from "./normalizers.ts";
import { Pieces, type PreTokenizer } from "./pre_tokenizers.ts";
import type { Model } from "./vocab.ts";

/** What turns text into ids, one part after the other. */
export interface Parts {
  added: AddedTokens;
  normalizer?: Normalizer;
  preTokenizer?: PreTokenizer;
  model: Model;
}

/** Pieces that each of the two generations holds; longer ones are rare, so they are not kept. */
const MOST_PIECES = 2 ** 15;
const LONGEST_PIECE = 64;
/** Characters of the sections that are kept: those of a few rows. */
const MOST_SECTION_CHARACTERS = 2 ** 18;

/**
 * The ids of a text. Added tokens cut it into sections, and the pre-tokenizer cuts these into pieces. Neither a
 * section's tokens nor a piece's depend on what stands around it, so each is computed once and kept, within bounds:
 * the sections of a prompt come again with each of its responses, and most pieces are words that come all the time.
 */
export function encoderOf(parts: Parts): (text: string) => number[] {
  const { added } = parts;
  added.prepare();
  const encodeSection = sectionEncoder(parts);
  const sections = new Map<string, number[]>();
  let characters = 0;

  return (text) => {
    const ids: number[] = [];
    for (const [id, start, end] of added.split(text)) {
      if (id >= 0) {
        ids.push(id);
        continue;
      }
      const section = text.slice(start, end);
      // A tokenizer may put a space in front of what begins the text.
      const key = start === 0 ? `1${section}` : `0${section}`;
      let found = sections.get(key);
      if (!found) {
        found = encodeSection(section, start === 0);
        characters += section.length;
        if (characters > MOST_SECTION_CHARACTERS) {
          sections.clear();
          characters = section.length;
        }
        if (characters <= MOST_SECTION_CHARACTERS) sections.set(key, found);
        else characters = 0;
      }
      for (const id of found) ids.push(id);
    }
    return ids;
  };
}

/** The ids of a section between added tokens that are looked for in the text as it is. */
function sectionEncoder({ added, normalizer, preTokenizer, model }: Parts) {
  const idsOfPieces = pieceEncoder(preTokenizer, model);
  return (text: string, isStart: boolean): number[] => {
    const first = isStart ? text.codePointAt(0)! > 0xffff ? 2 : 1 : 0;
    const section = { text, first };
    normalizer?.(section);
    const ids: number[] = [];
    for (const [id, start, end] of added.splitNormalized(section.text)) {
      if (id >= 0) ids.push(id);
      else idsOfPieces(section.text.slice(start, end), Math.max(0, section.first - start), ids);
    }
    return ids;
  };
}

function pieceEncoder(preTokenizer: PreTokenizer | undefined, model: Model) {
  const { cuts = [], placed = false, finish } = preTokenizer ?? {};
  const idsOf = finish ? (piece: string) => model.idsOf(finish(piece)) : model.idsOf;
  let [young, old] = [new Map<string, number[]>(), new Map<string, number[]>()];
  const idsOfPiece = (piece: string): number[] => {
    let ids = young.get(piece);
    if (ids) return ids;
    ids = old.get(piece) ?? idsOf(piece);
    if (piece.length > LONGEST_PIECE) return ids;
    if (young.size === MOST_PIECES) [young, old] = [new Map(), young];
    // A slice of a text would keep the whole of it in memory.
    young.set(` ${piece}`.slice(1), ids);
    return ids;
  };
  return (text: string, first: number, ids: number[]): void => {
    let pieces = new Pieces(placed);
    pieces.push(text, 0, first);
    for (const cut of cuts) {
      const next = new Pieces(placed);
      const { texts } = pieces;
      for (let i = 0; i < texts.length; i++) cut(texts[i], placed ? pieces.first[i] : 0, next);
      pieces = next;
    }
    for (const piece of pieces.texts) {
      if (!model.wordsApart || finish) {
        for (const id of idsOfPiece(piece)) ids.push(id);
      } else {
        for (const word of piece.match(/▁*[^▁]+|▁+/g) ?? []) for (const id of idsOfPiece(word)) ids.push(id);
      }
    }
  };
}
