import { stringify } from "npm:yaml@^2.9.1";
import { describeCollapse } from "../training/collapse.ts";
import { configYaml } from "../config/write.ts";
import type { TrainConfig } from "../config/schema.ts";
import { areKnown, DEFINITIONS, type LossName, lossName, namesOf } from "../losses/losses.ts";
import { writeWhole } from "../files/whole_file.ts";
import { printable } from "./log.ts";
import { finalFigures, runName, type RunReport } from "./run_report.ts";
import { describeDivision } from "../checkpoint/division.ts";
import { collapsesOf } from "../checkpoint/trainer_state.ts";

const CITATION = `@inproceedings{xiao2025simper,
  title     = {SimPER: A Minimalist Approach to Preference Alignment without Hyperparameters},
  author    = {Xiao, Teng and Yuan, Yige and Chen, Zhengyu and Li, Mingxiao and Liang, Shangsong and Ren, Zhaochun and
               Honavar, Vasant G.},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2025},
  url       = {https://arxiv.org/abs/2502.00883}
}`;

const REWARDS_NOTE =
  "rewards/chosen and rewards/rejected are the mean log-probabilities of the responses' tokens; " +
  "rewards/accuracies is the share of pairs whose chosen response has the higher one.";

/**
 * The model card: front matter as the Hub reads it, how to load the model, figures, configuration, files by
 * hash.
 *
 * @param baseModel the Hub's name of the source, `owner/name`; undefined where it is only a folder, which the
 * Hub would not know.
 */
export function modelCard(report: RunReport, baseModel?: string): string {
  const { config, state, device, version } = report;
  const names = namesOf(config.lossType);
  const simper = names.includes("simper");
  const name = runName(config);
  const frontMatter = stringify({
    ...(baseModel && { base_model: baseModel }),
    library_name: config.usePeft ? "peft" : "transformers",
    model_name: name,
    pipeline_tag: "text-generation",
    tags: [
      "generated_from_trainer",
      ...names,
      ...(names.includes("sigmoid") ? ["dpo"] : []),
      ...(isPreference(names) ? ["preference-alignment"] : []),
      // As PEFT's own cards.
      ...(config.usePeft
        ? [...(baseModel ? [`base_model:adapter:${baseModel}`] : []), "lora", "transformers"]
        : []),
    ],
  });
  const source = baseModel
    ? `[${baseModel}](https://huggingface.co/${baseModel})`
    : inline(config.modelNameOrPath);
  const subject = config.usePeft
    ? "These are low-rank adapters (LoRA, as PEFT has them) for"
    : config.fromScratch
    ? "This model is trained from random weights with the shape of"
    : "This model is a fine-tuned version of";
  const question = report.answers[0]?.prompt ?? "What is the capital of Italy?";
  const figures = finalFigures(state.log_history, report.results).map((
    { name, before, after },
  ) => [inline(name), before, after]);
  const files = [...report.modelFiles, ...report.dataFiles].map((
    { path, sha256 },
  ) => [inline(path), inline(sha256)]);
  const reference = Object.entries(report.provenance?.run.reference ?? {}).map(([name, sha256]) => [
    `${inline(name)} of the reference ${inline(config.refModel ?? "")}`,
    inline(sha256),
  ]);
  const parts = [
    `---\n${frontMatter}---`,
    `# Model card for ${plain(name)}`,
    `${subject} ${source}. ${config.usePeft ? "They were" : "It was"} trained with ${methodOf(config)}${
      config.refModel === undefined ? "" : `, against ${inline(config.refModel)}`
    }, for ${state.global_step} steps with simper ` +
    `${version} on ${plain(device)}${
      report.provenance?.division ? `, by ${describeDivision(report.provenance.division)}` : ""
    }.`,
    "## Quick start",
    fenced(
      `from transformers import pipeline

generator = pipeline("text-generation", model=${JSON.stringify(config.outputDir)})
messages = [{"role": "user", "content": ${JSON.stringify(question)}}]
print(generator(messages, max_new_tokens=128, do_sample=False, return_full_text=False)[0]["generated_text"])
`,
      "python",
    ),
    ...collapsesOf(state).map((collapse) => `**Warning:** ${plain(describeCollapse(collapse))}`),
    "## Figures",
    table(["figure", "before", "after"], figures),
    ...(names.length === 1 && simper ? [REWARDS_NOTE] : []),
    ...answersSection(report),
    "## Configuration",
    fenced(configYaml(config), "yaml"),
    "## Model and data",
    table(["file", "SHA-256"], [...files, ...reference]),
    ...(simper ? ["## Citation", fenced(`${CITATION}\n`, "bibtex")] : []),
  ];
  // Answers, names and templates are anybody's text, and README.md is shown as it is.
  return printable(`${parts.join("\n\n")}\n`);
}

/** Whether a loss compares responses; one that a script brings may do anything. */
const isPreference = (names: readonly LossName[]) => areKnown(names) && names.some((name) => name !== "sft");

/** The loss, for people: what it is, and where it was published. */
function methodOf(config: TrainConfig): string {
  const names = namesOf(config.lossType);
  if (!areKnown(names)) return `a preference loss of its own script, ${inline(lossName(names))}`;
  const { lossWeights, chosenAnchor } = config;
  const terms = names.map((name, i) => {
    const weight = lossWeights ? `${lossWeights[i]} times ` : "";
    if (name === "simper") return weight + SIMPER;
    if (name === "sft") return `${weight}${SFT}`;
    const { title, url, formula } = DEFINITIONS[name];
    return `${weight}[${title}](${url}), ${inline(formula)}`;
  });
  const anchor = chosenAnchor === 0
    ? []
    : [`${chosenAnchor} times the mean negative log-probability of the chosen one`];
  return [...terms, ...anchor].join(", and ");
}

const SIMPER =
  "[SimPER](https://arxiv.org/abs/2502.00883), which aligns with preferences by inverse perplexity, without " +
  "hyperparameters and without a reference model";
const SFT = "supervised fine-tuning: the mean negative log-probability of the chosen response";

/** Writes README.md, as `modelCard`. */
export async function writeModelCard(folder: string, report: RunReport, baseModel?: string): Promise<void> {
  await writeWhole(folder, "README.md", modelCard(report, baseModel));
}

function answersSection({ answers }: RunReport): string[] {
  if (answers.length === 0) return [];
  const blocks = answers.flatMap(({ prompt, before, after }) => [
    "Prompt:",
    fenced(`${prompt}\n`),
    "Before:",
    fenced(`${before}\n`),
    "After:",
    fenced(`${after}\n`),
  ]);
  return ["## Answers before and after", ...blocks];
}

function table(head: string[], rows: string[][]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** A block that its text cannot end, however many backticks it holds. */
function fenced(text: string, language = ""): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((ticks) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}${fence}`;
}

/** Code within a line of text or a table. */
function inline(text: string): string {
  return `\`${text.replace(/[`\s]+/g, " ").replaceAll("|", "\\|")}\``;
}

/** Words within a line of text, with no sign left that Markdown or HTML would take for its own. */
function plain(text: string): string {
  return text.replace(/\s+/g, " ").replace(/[\\`*_{}[\]<>#|]/g, "\\$&");
}
