import { COMPARISON_KEYS } from "./comparison_keys.ts";
import { MIXTURE, MIXTURE_DOC } from "./mixture.ts";
import { DEFINITIONS, LOSS_NAMES } from "../losses/losses.ts";
import { IGNORED, REFUSED } from "./other_keys.ts";
import { FIELDS, keyOf, KEYS } from "./schema.ts";
import type { Key } from "./key.ts";
import { describe } from "./values.ts";
import { GROUPS } from "./keys.ts";
import { wrap } from "../text/wrap.ts";

/**
 * All keys of a run file as Markdown lists: those followed by group, those rewritten, those ignored with the reason,
 * those refused.
 */
export function configReference(): string {
  const followed = FIELDS.flatMap((field) => {
    const { doc, type, required, aliases, default: value, mayChange }: Key<unknown> = KEYS[field];
    const facts = [
      type.expected,
      ...required ? ["required"] : value === undefined ? [] : [`default ${code(describe(value))}`],
      ...aliases ? [`also ${aliases.map(code).join(", ")}`] : [],
      ...mayChange ? ["may change"] : [],
    ];
    const head = Object.hasOwn(GROUPS, field) ? [`\n### ${GROUPS[field]}\n`] : [];
    return [...head, item(`${code(keyOf(field))}: ${doc} (${facts.join("; ")})`)];
  });
  const ignored = Map.groupBy(Object.keys(IGNORED), (key) => IGNORED[key]);
  return [
    ...followed.join("\n").trimStart().split("\n"),
    "\n### The losses\n",
    "```text",
    ...LOSS_NAMES.map((name) => `${name.padEnd(18)} ${DEFINITIONS[name].formula}`),
    "```\n",
    ...LOSS_NAMES.map((name) => {
      const { title, url, reads, usesReference, isJudged } = DEFINITIONS[name];
      const facts = [
        ...reads.map((field) => code(keyOf(field))),
        ...usesReference ? ["a reference model"] : [],
        ...isJudged ? ["the data's `label`"] : [],
      ];
      return item(
        `${code(name)}, [${title}](${url})${facts.length > 0 ? `: reads ${facts.join(", ")}` : ""}`,
      );
    }),
    "",
    ...wrap(LOSSES_DOC, 116),
    "\n### Of `simper compare` alone\n",
    ...Object.entries(COMPARISON_KEYS).map(([key, { type, doc }]) =>
      item(`${code(key)}: ${doc} (${type.expected})`)
    ),
    "\n### Rewritten\n",
    item(`${code(MIXTURE)}: ${MIXTURE_DOC}`),
    "\n### Ignored, with a line that says why\n",
    ...[...ignored].map(([why, keys]) => item(`${keys.map(code).join(", ")}: ${why}`)),
    "\n### Refused\n",
    ...Object.entries(REFUSED).map(([key, { allowed, why }]) =>
      item(
        `${code(key)}: ${why}` +
          (allowed.length > 0
            ? `; ${allowed.map((value) => code(describe(value))).join(" or ")} is taken`
            : ""),
      )
    ),
    "",
  ].join("\n");
}

const LOSSES_DOC =
  "`c` and `r` are the log-probabilities of chosen's and rejected's tokens, summed, and `mean` divides them by their " +
  "number. Names, defaults and rewards are TRL's. What is different: likelihoods (`sft`, `cpo_alpha`, " +
  "ORPO's) are means over each response's tokens, where TRL takes the mean over all tokens of a micro-batch, " +
  "so that a pair's loss does not depend on the pairs beside it; and ORPO's likelihood leaves the prompt " +
  "out, as its paper does. In a list, rewards are those of the first loss that is not `sft`.";

/** An item of a list, in lines that fit a screen. */
const item = (text: string) => `- ${wrap(text, 114).join("\n  ")}`;

/** The module `key_types.ts`: the types of all keys, each with what it means, so that an editor shows it. */
export function keyTypes(): string {
  const entries = FIELDS.map((field) => ({ field, ...(KEYS[field] as Key<unknown>) }));
  const property = (name: string, doc: string, type: string) => `${comment(doc)}  ${name}: ${type};\n`;
  const keys = entries.map(({ field, doc, type, required, default: value }) => {
    // Rows of a script stand for it.
    const isRequired = required && field !== "datasetMixer";
    const standard = required
      ? ` Required${isRequired ? "" : ", unless `train` is given rows"}.`
      : value === undefined
      ? ""
      : ` By default ${code(describe(value))}.`;
    return property(`${keyOf(field)}${isRequired ? "" : "?"}`, doc + standard, type.typescript);
  });
  const fields = entries.map(({ field, doc, type, required, follows, default: value }) => {
    const isCertain = required || follows || value !== undefined;
    return property(
      field,
      doc,
      CHECKED[type.typescript] ?? type.typescript + (isCertain ? "" : " | undefined"),
    );
  });
  return `// Written by \`deno task keys\` from the table in keys.ts.
import type { LossType } from "../losses/losses.ts";

/** The keys of a run file with their values, as a script writes them. */
export interface RunKeys {
${keys.join("")}}

/** A checked run file: the fields are its keys in camelCase. */
export interface TrainConfig {
${fields.join("")}}
`;
}

const LONGEST_LINE = 110;

/** A comment of a property, in as many lines as it takes. */
function comment(doc: string): string {
  if (doc.length + "  /**  */".length <= LONGEST_LINE) return `  /** ${doc} */\n`;
  const lines = wrap(doc, LONGEST_LINE - "   * ".length);
  return `  /**\n${lines.map((line) => `   * ${line}\n`).join("")}   */\n`;
}

/** What a checked configuration has in place of what a script writes. */
const CHECKED: Readonly<Record<string, string>> = {
  "Record<string, number>": `{
    path: string;
    share: number;
    /** The configuration of the data set's README.md. */
    config?: string;
    /** Other names for columns, by the names that its files have. */
    columns?: ReadonlyMap<string, string>;
  }[]`,
  "Record<string, string>": "ReadonlyMap<string, string> | undefined",
  "number | string": "number | undefined",
  "string | number": "string | undefined",
  "string | readonly string[]": 'readonly "tensorboard"[]',
};

function code(text: string): string {
  return `\`${text}\``;
}
