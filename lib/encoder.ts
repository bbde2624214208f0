import type { Tokenizer as HuggingFaceTokenizer } from "npm:@huggingface/tokenizers@^0.2.0";

/** What is used of a tokenizer of @huggingface/tokenizers besides `encode`, and of its tokenizer.json. */
interface Parts {
  tokenizer: { post_processor: Config | null };
  normalizer: ((text: string) => string) | null;
  pre_tokenizer: Stage & { tokenizers?: Stage[] } | null;
  model: Model;
  added_tokens: { content: string; lstrip: boolean; rstrip: boolean; normalized: boolean }[];
  added_tokens_map: Map<string, { id: number }>;
  remove_space?: boolean;
  do_lowercase_and_remove_accent: boolean;
}

type Config = Record<string, unknown> & { type?: string };
type Stage = ((text: string | string[], options: { section_index: number }) => string[]) & {
  config?: Config;
};
type Model = ((pieces: string[]) => string[]) & {
  config: Config;
  tokens_to_ids: Map<string, number>;
  unk_token_id?: number;
  fuse_unk: boolean;
  merges?: [string, string][];
};

/** Pieces that each of the two generations holds; longer ones are rare, so they are not kept. */
const MOST_PIECES = 2 ** 15;
const LONGEST_PIECE = 64;
/** Characters of the sections that are kept: those of a few rows. */
const MOST_SECTION_CHARACTERS = 2 ** 18;

/**
 * `library.encode(text, { add_special_tokens: false }).ids`, several times as fast. Added tokens cut a text into sections, and
 * the pre-tokenizer cuts these into pieces. Neither a section's tokens nor a piece's depend on what stands around it, so
 * each is computed once and kept, within bounds: the sections of a prompt come again with each of its responses, and most
 * pieces are words that come all the time. Tokenizers of a form where that is not so are left to the library.
 */
export function encoderOf(library: HuggingFaceTokenizer): (text: string) => number[] {
  const parts = library as unknown as Parts;
  if (!hasPlainForm(parts)) return (text) => library.encode(text, { add_special_tokens: false }).ids;
  const { normalizer, added_tokens_map: added } = parts;
  const idsOfPieces = pieceEncoder(parts);
  const marks = marksOf(parts);
  const sections = new Map<string, number[]>();
  let characters = 0;

  const encodeSection = (section: string, index: number): number[] => {
    const text = normalizer ? normalizer(section) : section;
    if (text === "") return [];
    const token = added.get(text);
    return token ? [token.id] : idsOfPieces(text, index);
  };
  return (text) => {
    const ids: number[] = [];
    // A token stands at each odd index; the library does not count the empty sections between them.
    let index = 0;
    for (const [i, section] of (marks ? text.split(marks) : [text]).entries()) {
      if (section === "") continue;
      if (i % 2 === 1) {
        ids.push(added.get(section)!.id);
        index++;
        continue;
      }
      const key = index === 0 ? `1${section}` : `0${section}`;
      let found = sections.get(key);
      if (!found) {
        found = encodeSection(section, index);
        characters += section.length;
        if (characters > MOST_SECTION_CHARACTERS) {
          sections.clear();
          characters = section.length;
        }
        sections.set(key, found);
      }
      for (const id of found) ids.push(id);
      index++;
    }
    return ids;
  };
}

/** Whether added tokens alone say how a text is cut into sections, and no other step looks across their ends. */
function hasPlainForm({ tokenizer, normalizer, added_tokens, ...parts }: Parts): boolean {
  const addsNothing = (processor: Config | null): boolean => {
    const { type, processors, single } = processor ?? { type: "ByteLevel" };
    if (type === "Sequence") return (processors as Config[]).every(addsNothing);
    const whole = JSON.stringify(single ?? []).match(/"Sequence":/g);
    return type === "ByteLevel" || (type === "TemplateProcessing" && whole?.length === 1);
  };
  return !parts.remove_space && !parts.do_lowercase_and_remove_accent &&
    addsNothing(tokenizer.post_processor) &&
    added_tokens.every(({ content, lstrip, rstrip, normalized }) =>
      content !== "" && !lstrip && !rstrip && !(normalized && normalizer)
    );
}

/** Finds added tokens: the longest of those that begin at the first place where one does. */
function marksOf({ added_tokens }: Parts): RegExp | undefined {
  if (added_tokens.length === 0) return undefined;
  const contents = added_tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
  return new RegExp(`(${contents.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|")})`);
}

function pieceEncoder(parts: Parts): (text: string, section_index: number) => number[] {
  const { model, added_tokens_map: added } = parts;
  const { cut, finish } = stagesOf(parts);
  const idsOf = (pieces: string[]) =>
    model(finish(pieces)).map((token) =>
      added.get(token)?.id ?? model.tokens_to_ids.get(token) ?? model.unk_token_id!
    );
  let [young, old] = [new Map<string, number[]>(), new Map<string, number[]>()];
  const idsOfPiece = (piece: string): number[] => {
    let ids = young.get(piece);
    if (ids) return ids;
    ids = old.get(piece) ?? idsOf([piece]);
    if (piece.length > LONGEST_PIECE) return ids;
    if (young.size === MOST_PIECES) [young, old] = [new Map(), young];
    // A slice of a text would keep the whole of it in memory.
    young.set(` ${piece}`.slice(1), ids);
    return ids;
  };
  return (text, section_index) => {
    const pieces = cut(text, section_index);
    const ids: number[] = [];
    for (const piece of pieces) for (const id of idsOfPiece(piece)) ids.push(id);
    // Unknown pieces beside each other become one token.
    return model.fuse_unk && ids.includes(model.unk_token_id!) ? idsOf(pieces) : ids;
  };
}

/** The pre-tokenizer in two steps: one that cuts, and one that writes each piece in the model's alphabet. */
function stagesOf({ pre_tokenizer, model }: Parts): {
  cut: (text: string, section_index: number) => string[];
  finish: (pieces: string[]) => string[];
} {
  const stages = pre_tokenizer?.tokenizers ?? (pre_tokenizer ? [pre_tokenizer] : []);
  const last = stages.at(-1);
  const { type, use_regex, add_prefix_space } = last?.config ?? {};
  const isAlphabet = type === "ByteLevel" && use_regex === false && !add_prefix_space;
  const cutting = isAlphabet ? stages.slice(0, -1) : stages;
  const cut = (text: string, section_index: number) =>
    cutting.reduce((pieces, stage) => stage(pieces, { section_index }), [text]);
  if (isAlphabet) return { cut, finish: (pieces) => last!(pieces, { section_index: 0 }) };
  const finish = (pieces: string[]) => pieces;
  if (!keepsWordsApart(model)) return { cut, finish };
  return {
    cut: (text, index) => cut(text, index).flatMap((piece) => piece.match(/▁*[^▁]+|▁+/g) ?? []),
    finish,
  };
}

/**
 * Whether no merge of a BPE model joins something with a "▁" after it: then the words of a text that SentencePiece would
 * leave whole can be tokenised one by one.
 */
function keepsWordsApart({ config, merges }: Model): boolean {
  const { type, ignore_merges, end_of_word_suffix, continuing_subword_suffix } = config;
  return type === "BPE" && !ignore_merges && !end_of_word_suffix && !continuing_subword_suffix &&
    merges!.every(([left, right]) => !/[^▁]▁/.test(left + right));
}
