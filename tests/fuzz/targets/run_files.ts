/** What a user writes: the run file, and the command line's words. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseConfig, readConfig } from "../../../lib/config/parse.ts";
import { damageBytes, damageText } from "../bytes.ts";
import { HOSTILE_NAMES } from "../json.ts";
import { goldenText, type Target } from "../target.ts";

const RUN_FILES = [
  ...["llama-3-8b-base-simper", "mistral-7b-instruct-simper", "tiny", "tiny-sft"].map((name) =>
    goldenText(`configs/${name}.yaml`)
  ),
  "a: &a [x, y]\nprompts: *a\nmodel_name_or_path: >-\n  m\ndataset_mixer: {<<: {a: 1}, b: 0.5}\n? seed\n: !!int '3'\n",
  "dataset_mixture: {datasets: [{id: d, split: train, weight: 0.5, columns: [chosen, rejected]}], seed: 1}\n" +
  "model_name_or_path: m\nchat_template: |\n  {% for m in messages %}\n  {{ m.content }}\n  {% endfor %}\n",
];
const YAML = [
  ..."& * : - ? ! | > ' \" [ ] { } , # % @ ` --- ... << &a *a *b !!binary !!set !!omap !!js/function !!map !<x> |- >+ |9 ~ null"
    .split(" "),
  ..."yes no on off 0x1f 0o7 0b1 1_000 .inf -.inf .nan 1e400 2001-12-14 seed max_length max_steps dataset_mixer prompts beta"
    .split(" "),
  ...[
    "\n",
    "\t",
    "\r",
    "\0",
    "\ufeff",
    "\u2028",
    "\ud800",
    "\n  ",
    "? ",
    ": ",
    "- ",
    "__proto__: 1\n",
    "x".repeat(200),
  ],
  ...["[[[[", "{a: {b: ", "&a &b", "*a : *a\n"],
];

const runFile: Target = {
  name: "yaml",
  names: /run\.yaml/,
  make(random, { folder }) {
    const text = new TextEncoder().encode(damageText(random, random.pick(RUN_FILES), YAML));
    const bytes = random.chance(0.2) ? damageBytes(random, text) : text;
    const path = join(folder, "run.yaml");
    writeFileSync(path, bytes);
    return { bytes: bytes.length, run: () => readConfig(path) };
  },
};

const WORDS = [
  ..."--seed=1 --seed --max_length=5 --do_eval --no --beta=2 --prompts=[a,b] --dataset_mixer={a:1} --chat_template={{x}} run.yaml"
    .split(" "),
  ..."--dataset_mixer.a/b=0.5 --dataset_mixer.=1 --dataset_mixer. --= -- --=1 -x - --seed= --seed==1 --SEED=1 --device_memory=1PB"
    .split(" "),
];
const VALUES = [
  ...YAML,
  ...HOSTILE_NAMES,
  "1",
  "-1",
  "1e-6",
  "[1,2]",
  "{a: 1}",
  "{a: .nan}",
  "*a",
  "&a x",
  "'",
  "=",
  "1GB",
];

const commandLine: Target = {
  name: "arguments",
  names: /run\.yaml|--|expected|unknown|dataset_mixer|max_|model_/,
  make(random) {
    const words = Array.from({ length: random.few() }, () => {
      const word = random.pick(WORDS);
      if (random.chance(0.4)) return damageText(random, word, VALUES);
      return random.chance(0.5) ? `${word.split("=")[0]}=${random.pick(VALUES)}` : word;
    });
    const text = random.pick(RUN_FILES);
    return {
      bytes: text.length + words.join("").length,
      run: () => parseConfig(text, "run.yaml", words),
    };
  },
};

export const runFiles = [runFile, commandLine];
