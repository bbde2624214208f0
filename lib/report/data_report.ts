import { styleText } from "node:util";
import type { TrainConfig } from "../config/schema.ts";
import { type CountedNotice, describeNotice } from "../data/notices.ts";
import type { PairStatistics, PairStore } from "../data/store.ts";
import type { Pair, Sequence } from "../data/pair.ts";
import { epochAfter, type SamplerOptions } from "../training/sampler.ts";

const BINS = 10;
const BAR = 16;

/** What each list of token ids says. */
export type TextsOf = (lists: number[][]) => Promise<string[]>;

/**
 * A pair as the model sees it: what both sequences begin with, then what each goes on with.
 *
 * @param hasColors labelled tokens are green or red, and every other one underlined; without it they stand in brackets.
 */
export async function describePair(
  pair: Pair,
  prefix: number,
  textsOf: TextsOf,
  hasColors: boolean,
): Promise<string> {
  const lines = [
    `shared prompt, ${prefix} tokens`,
    await marked({ ids: pair.chosen.ids, promptLength: prefix }, 0, prefix),
  ];
  const { desirable } = pair;
  const names = desirable === undefined
    ? ["chosen", "rejected"] as const
    : [desirable ? "desirable" : "undesirable", "another's response, for the KL estimate alone"] as const;
  const responses = [
    [names[0], pair.chosen, desirable === false ? "red" : "green"],
    [names[1], pair.rejected, "red"],
  ] as const;
  for (const [name, sequence, color] of responses) {
    if (!sequence) continue;
    const { ids, promptLength } = sequence;
    lines.push(`${name}, ${ids.length - promptLength} labelled tokens`);
    lines.push(await marked(sequence, prefix, ids.length, color));
  }
  return lines.join("\n");

  async function marked(
    { ids, promptLength }: Sequence,
    begin: number,
    end: number,
    color?: "green" | "red",
  ): Promise<string> {
    const unlabelled = (await tokenTexts(ids.slice(0, Math.min(promptLength, end)), begin, textsOf)).join("");
    const labelled = color === undefined
      ? []
      : await tokenTexts(ids.slice(0, end), Math.max(begin, promptLength), textsOf);
    const mark = (text: string, i: number) =>
      hasColors && color !== undefined
        ? styleText(i % 2 ? [color, "underline"] : color, text, { validateStream: false })
        : `[${text}]`;
    const plain = hasColors && unlabelled !== ""
      ? styleText("dim", unlabelled, { validateStream: false })
      : unlabelled;
    return plain + labelled.map(mark).join("");
  }
}

/** As many tokens may make a character together. */
const MOST_PARTS = 4;

/**
 * Texts of the tokens from `begin` on. Tokens that make a character only together come as one text; line ends are
 * shown, and other control characters, and those that turn the direction of writing, are written out, since a
 * terminal would follow them.
 */
export async function tokenTexts(ids: readonly number[], begin: number, textsOf: TextsOf): Promise<string[]> {
  // Some tokenizers drop the space of a text's first token: so each is read after the one before it.
  const before = (first: number) => first > 0 ? [ids[first - 1]] : [];
  let open = Array.from({ length: Math.max(0, ids.length - begin) }, (_, i) => begin + i);
  const heads = await textsOf(open.map(before));
  /** By the token that each begins with. */
  const found = new Map<number, { text: string; tokens: number }>();
  for (let tokens = 1; tokens <= MOST_PARTS && open.length > 0; tokens++) {
    const lists = open.map((first) => [...before(first), ...ids.slice(first, first + tokens)]);
    const texts = await textsOf(lists);
    open = open.filter((first, i) => {
      const text = texts[i].slice(heads[first - begin].length);
      found.set(first, { text, tokens });
      return text.endsWith("\ufffd") && first + tokens < ids.length;
    });
  }
  const texts: string[] = [];
  for (let first = begin; first < ids.length;) {
    const { text, tokens } = found.get(first)!;
    texts.push(visible(text));
    first += tokens;
  }
  return texts;
}

const visible = (text: string) =>
  text.replace(
    /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    (character) => {
      if (character === "\n") return "↵\n";
      const code = character.charCodeAt(0);
      return code < 256
        ? `\\x${code.toString(16).padStart(2, "0")}`
        : `\\u${code.toString(16).padStart(4, "0")}`;
    },
  );

/** How many pairs there are, how long, and what was cut and why. */
export function describeSplit(store: PairStore, config: TrainConfig): string {
  const { rows, truncated, truncatedResponses, notices, tokens, endedResponses, responses } =
    store.statistics;
  const { maxLength, maxPromptLength, truncationMode } = config;
  const answers = maxLength - maxPromptLength;
  const end = truncationMode === "keep_end" ? "last" : "first";
  const lines = [
    `${countOf(store.statistics)}, ${count(tokens)} tokens; a packed row shares prompts: ${
      count(sum(store.sizes.tokens))
    }`,
    `dropped: none, since a row that cannot be used stops the run`,
    `longer than max_length (${maxLength}): ${
      count(truncated)
    }, whose prompts keep their ${end} ${maxPromptLength} ` +
    `tokens (max_prompt_length)`,
    `still longer then: ${count(truncatedResponses)}, whose responses keep their first ${answers} tokens`,
    `ended: ${count(endedResponses)} of ${count(responses)} responses have an end token (${
      endedShare(store.statistics)
    })`,
    ...notices.flatMap((notice) => [
      `${count(notice.count)} of ${count(rows)} rows: ${describeNotice(notice.kind)}`,
      ...notice.first.map((place) => `  ${placeOf(place)}`),
      ...notice.count > notice.first.length ? ["  ..."] : [],
    ]),
    "",
    histogram(store),
  ];
  return lines.join("\n");
}

/** Tells of a split what a run should not begin without: its size, and what in its rows may not be meant. */
export function reportSplit(
  split: string,
  statistics: PairStatistics,
  log: (level: "info" | "warning", message: string) => void,
): void {
  const { rows, tokens, longest, truncated, notices, judged } = statistics;
  const noun = judged ? "responses" : "pairs";
  log(
    "info",
    `${split}: ${countOf(statistics)}, ${tokens} tokens, the longest ${longest}; ${
      endedShare(statistics)
    } of responses have an end token`,
  );
  if (truncated) {
    log("warning", `${split}: ${truncated} of ${rows} ${noun} were longer than max_length and truncated`);
  }
  for (const notice of notices) {
    log(
      "warning",
      `${placeOf(notice.first[0])}: ${
        describeNotice(notice.kind)
      } (${split}: ${notice.count} of ${rows} rows)`,
    );
  }
}

/** What there is of a split. */
const countOf = ({ rows, judged }: PairStatistics): string =>
  judged
    ? `${rows} responses, ${judged.desirable} of them desirable and ${judged.undesirable} undesirable`
    : `${rows} pairs`;

/**
 * Warns where desirable and undesirable responses are of another number and the weights of their losses do not make
 * up for it: the range is that of TRL and of the KTO paper (arXiv 2402.01306, equation 8).
 */
export function reportBalance(
  { judged }: PairStatistics,
  { desirableWeight, undesirableWeight }: Pick<TrainConfig, "desirableWeight" | "undesirableWeight">,
  log: (level: "warning", message: string) => void,
): void {
  if (!judged) return;
  const { desirable: good, undesirable: bad } = judged;
  if (good === 0 || bad === 0) {
    log("warning", `no response is ${good === 0 ? "desirable" : "undesirable"}: KTO needs both`);
    return;
  }
  if (good === bad) return;
  const weights = { desirable: desirableWeight, undesirable: undesirableWeight };
  const rounded = (value: number) => Number(value.toFixed(2));
  const ratio = bad * weights.undesirable / good;
  const inverse = good * weights.desirable / bad;
  const ranges = {
    desirable: [rounded(ratio), rounded(1.33 * ratio)],
    undesirable: [rounded(inverse / 1.33), rounded(inverse)],
  };
  const fits = (["desirable", "undesirable"] as const).some((name) =>
    ranges[name][0] <= weights[name] && weights[name] <= ranges[name][1]
  );
  if (fits) return;
  log(
    "warning",
    `${judged.desirable} desirable and ${judged.undesirable} undesirable responses: desirable_weight from ${
      ranges.desirable.join(" to ")
    }, or else undesirable_weight from ${
      ranges.undesirable.join(" to ")
    }, would balance them; they are ${weights.desirable} and ${weights.undesirable}`,
  );
}

/** Tells what a run goes through: steps, pairs of each, and what that is of the data. */
export function reportSteps(
  { train, sampler, totalSteps }: { train: PairStore; sampler: SamplerOptions; totalSteps: number },
  log: (level: "info", message: string) => void,
): void {
  const { perBatch, batchesPerStep } = sampler;
  const pairs = perBatch * batchesPerStep;
  const batches = batchesPerStep > 1 ? ` (${batchesPerStep} x ${perBatch})` : "";
  const epochs = epochAfter(totalSteps, sampler);
  const tokens = Math.round(sum(train.sizes.tokens) * epochs);
  const counted = (value: number, noun: string) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
  log(
    "info",
    `${counted(totalSteps, "step")} of ${
      counted(pairs, train.statistics.judged ? "response" : "pair")
    }${batches}, ` +
      `${counted(Number(epochs.toPrecision(3)), "epoch")}: about ${counted(tokens, "token")} of packed rows`,
  );
}

/** The share of responses that an end token ends, in percent; only where it is all of them, 100. */
export function endedShare({ responses, endedResponses }: PairStatistics): string {
  const percent = Math.floor(1000 * endedResponses / responses) / 10;
  return `${percent} %`;
}

const placeOf = ({ where, detail }: CountedNotice["first"][number]) =>
  visible(detail === undefined ? where : `${where}: ${detail}`);

function histogram({ columns, statistics: { judged } }: PairStore): string {
  const { chosenPrompt, chosenLength, rejectedPrompt, rejectedLength } = columns;
  const both: [string, Uint32Array][] = [
    ["prompt", chosenPrompt],
    [judged ? "response" : "chosen", chosenLength.map((length, i) => length - chosenPrompt[i])],
    ["rejected", rejectedLength.map((length, i) => length - rejectedPrompt[i])],
  ];
  const hasRejected = !judged && rejectedLength.some((length) => length > 0);
  const series = both.filter(([name]) => name !== "rejected" || hasRejected)
    .map(([name, lengths]) => ({ name, lengths: lengths.slice().sort() }));
  const longest = Math.max(...series.map(({ lengths }) => lengths.at(-1)!));
  const width = Math.max(1, Math.ceil((longest + 1) / BINS));
  const bins = Array.from({ length: Math.ceil((longest + 1) / width) }, (_, bin) => bin);
  const counts = series.map(({ lengths }) => {
    const found = bins.map(() => 0);
    for (const length of lengths) found[Math.floor(length / width)]++;
    return found;
  });
  const most = Math.max(...counts.flat());
  const cell = (text: string) => text.padEnd(BAR + 10);
  const line = (head: string, cells: string[]) =>
    `${head.padStart(12)}  ${cells.map(cell).join("")}`.trimEnd();
  const quantile = (name: string, share: number) =>
    line(name, series.map(({ lengths }) => count(lengths[Math.floor(share * (lengths.length - 1))])));
  return [
    line("tokens", series.map(({ name }) => name)),
    ...bins.map((bin) =>
      line(
        `${bin * width}-${(bin + 1) * width - 1}`,
        counts.map((found) => {
          const bar = "#".repeat(Math.ceil(BAR * found[bin] / most));
          return `${count(found[bin]).padStart(8)} ${bar}`;
        }),
      )
    ),
    quantile("median", 0.5),
    quantile("95 %", 0.95),
    quantile("longest", 1),
  ].join("\n");
}

const sum = (numbers: Uint32Array) => numbers.reduce((total, number) => total + number, 0);
const count = (value: number) => value.toLocaleString("en-US");
