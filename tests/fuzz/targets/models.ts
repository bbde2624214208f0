/** What a model's folder holds: weights, their index, config.json, tokenizer and chat template. */
import { Buffer } from "node:buffer";
import { parseConfig } from "../../../lib/config/parse.ts";
import { worstCase } from "../../../lib/planning/estimate.ts";
import { vocabularyOf } from "../../../lib/export/vocabulary.ts";
import { readModelConfig } from "../../../lib/weights/config_file.ts";
import { openModel } from "../../../lib/weights/weights.ts";
import { openCheckpoint } from "../../../lib/safetensors/read.ts";
import { loadTokenizer, readTokenTable } from "../../../lib/tokenizer/tokenizer.ts";
import { entry, file } from "../../hostile_safetensors.ts";
import { damageBytes, damageText } from "../bytes.ts";
import { damageJson, HOSTILE_NAMES } from "../json.ts";
import type { Random } from "../random.ts";
import { golden, goldenText, place, type Target } from "../target.ts";

/** Reads every tensor, whole and by its last element. */
async function readWeights(folder: string): Promise<void> {
  const checkpoint = await openCheckpoint(folder);
  try {
    for (const [name, { dtype }] of checkpoint.tensors) {
      await checkpoint.readBytes(name);
      if (["F32", "F16", "BF16"].includes(dtype)) await checkpoint.readF32(name);
    }
  } finally {
    await checkpoint.close();
  }
}

/** A header and the data after it, apart. */
function parts(bytes: Uint8Array): { header: unknown; data: Uint8Array } {
  const length = Number(Buffer.from(bytes).readBigUInt64LE(0));
  return {
    header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))),
    data: bytes.subarray(8 + length),
  };
}

const WEIGHTS = [
  golden("tests/golden/files/reference.safetensors"),
  file(
    { a: entry("F32", [2, 3], [0, 24]), b: entry("BF16", [4], [24, 32]), c: entry("I64", [], [32, 40]) },
    40,
  ),
  file({ __metadata__: { format: "pt" }, w: entry("F4", [4], [0, 2]), e: entry("U8", [0, 7], [2, 2]) }, 2),
];

const safetensors: Target = {
  name: "safetensors",
  names: /model\.safetensors/,
  make(random, world) {
    const source = random.pick(WEIGHTS);
    let bytes: Uint8Array;
    if (random.chance(0.4)) bytes = damageBytes(random, source, random.pick(WEIGHTS));
    else {
      const { header, data } = parts(source);
      const text = new TextEncoder().encode(damageJson(random, header));
      const whole = Buffer.concat([Buffer.alloc(8), text, data]);
      whole.writeBigUInt64LE(BigInt(text.length + (random.chance(0.05) ? random.pick([-1, 1, 8]) : 0)), 0);
      bytes = random.chance(0.1) ? damageBytes(random, whole) : whole;
    }
    return {
      bytes: place(world, { "model.safetensors": bytes }),
      run: () => readWeights(world.folder),
    };
  },
};

const INDEX = {
  metadata: { total_size: 40 },
  weight_map: { a: "s1.safetensors", b: "s1.safetensors", c: "s2.safetensors" },
};

const index: Target = {
  name: "index",
  names: /model\.safetensors\.index\.json|s\d\.safetensors/,
  make(random, world) {
    let text = damageJson(random, {
      ...INDEX,
      weight_map: {
        ...INDEX.weight_map,
        ...(random.chance(0.5) && { d: random.pick([...HOSTILE_NAMES, `${world.outside}/s1.safetensors`]) }),
      },
    });
    if (random.chance(0.2)) {
      text = Buffer.from(damageBytes(random, new TextEncoder().encode(text))).toString("latin1");
    }
    return {
      bytes: place(world, {
        "model.safetensors.index.json": text,
        "s1.safetensors": file({ a: entry("U8", [1], [0, 1]), b: entry("F32", [1], [1, 5]) }, 5),
        "s2.safetensors": file({ c: entry("F16", [2], [0, 4]) }, 4),
      }),
      run: () => readWeights(world.folder),
    };
  },
};

const SHAPES = ["llama/untied", "llama/tied-llama3-bf16-sharded", "llama/sliding-window", "llama/padding"]
  .map((name) => JSON.parse(goldenText(`tests/golden/${name}/config.json`)));
const partOf = (model_type: string, text_config: unknown) => ({ model_type, text_config, vision_config: {} });
const CONFIGS = [...SHAPES, partOf("llava", SHAPES[0]), partOf("mistral3", SHAPES[2])];
const RUN = parseConfig("model_name_or_path: m\ndataset_mixer: {d: 1}\n", "run.yaml").config;

/** Damage to a JSON file: mostly of its values, sometimes of its bytes. */
function damageFile(random: Random, value: unknown): Uint8Array {
  const bytes = new TextEncoder().encode(damageJson(random, value));
  return random.chance(0.15) ? damageBytes(random, bytes) : bytes;
}

const config: Target = {
  name: "config",
  names: /config\.json/,
  make: (random, world) => ({
    bytes: place(world, { "config.json": damageFile(random, random.pick(CONFIGS)) }),
    run: async () => worstCase(await readModelConfig(world.folder), RUN),
  }),
};

const UNTIED = parts(golden("tests/golden/llama/untied/model.safetensors"));
const PREFIXES = [
  "",
  "model.",
  "model.model.",
  "language_model.",
  "language_model.model.",
  "model.language_model.",
  "a.",
];

/** A model's tensors under other names and of other types and shapes, some of them twice. */
const weights: Target = {
  name: "weights",
  names: /model\.safetensors|config\.json|are both there/,
  make(random, world) {
    const entries = Object.entries(UNTIED.header as Record<string, unknown>);
    const prefix = random.pick(PREFIXES);
    const renamed = entries.map(([name, value]) => {
      const chosen = random.chance(0.02) ? random.pick(PREFIXES) : prefix;
      return [
        name.replace("model.", random.chance(0.02) ? `${chosen}${random.pick(HOSTILE_NAMES)}` : chosen),
        value,
      ];
    });
    const header = Object.fromEntries(renamed);
    const bytes = new TextEncoder().encode(
      random.chance(0.5) ? JSON.stringify(header) : damageJson(random, header),
    );
    const whole = Buffer.concat([Buffer.alloc(8), bytes, UNTIED.data]);
    whole.writeBigUInt64LE(BigInt(bytes.length), 0);
    const text = { ...SHAPES[0], tie_word_embeddings: random.chance(0.5) };
    const config = random.chance(0.3) ? partOf("llava", text) : text;
    return {
      bytes: place(world, { "model.safetensors": whole, "config.json": JSON.stringify(config) }),
      run: async () => {
        const { close, saved } = await openModel(world.folder);
        await close();
        return saved;
      },
    };
  },
};

const TOKENIZER = JSON.parse(goldenText("tests/golden/llama/untied/tokenizer.json"));
const TOKENIZER_CONFIG = {
  ...JSON.parse(goldenText("tests/golden/llama/untied/tokenizer_config.json")),
  chat_template: goldenText("tests/golden/llama/untied/chat_template.jinja"),
};
const TEXTS = [
  "Is it late? 12345 \u{1f642} \u0085 don't",
  "",
  " a\n\n\tb<|im_end|>x".repeat(20),
  "a".repeat(400),
];
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Is it late? {{ x }} <|im_end|>" },
  { role: "assistant", content: "" },
];

const tokenizer: Target = {
  name: "tokenizer",
  // In a run the row that the text is of stands in front.
  names: /tokenizer|chat.template|special_tokens_map|^expected Unicode text/,
  make(random, world) {
    const part = random.below(3);
    const isExported = random.chance(0.2);
    const files = {
      "tokenizer.json": part < 2 ? damageFile(random, TOKENIZER) : JSON.stringify(TOKENIZER),
      "tokenizer_config.json": part > 0
        ? damageFile(random, TOKENIZER_CONFIG)
        : JSON.stringify(TOKENIZER_CONFIG),
      ...(random.chance(0.1) && { "special_tokens_map.json": damageFile(random, { bos_token: "<s>" }) }),
    };
    return {
      bytes: place(world, files),
      run: async () => {
        if (isExported) return vocabularyOf(await readTokenTable(world.folder), 303);
        const { encode, decode, applyChatTemplate } = await loadTokenizer(world.folder);
        for (const text of TEXTS) decode(encode(text));
        decode([0, 1, 2, 7, 300, 2 ** 31], { skipSpecialTokens: true });
        encode(applyChatTemplate(MESSAGES));
      },
    };
  },
};

const TEMPLATES = [
  TOKENIZER_CONFIG.chat_template,
  goldenText("tests/golden/data/tokenizer/chat_template.jinja"),
  "{% set ns = namespace(n=0) %}{%- for m in messages -%}{% set ns.n = ns.n + 1 %}{% if loop.first %}{{ bos_token }}" +
  "{% elif m['role'] == 'user' %}{{ raise_exception('no ' + m.role) }}{% else %}{{ m.content | trim | upper }}{% endif %}" +
  "{%- endfor -%}{% macro f(x, y=2) %}{{ x * y }}{% endmacro %}{{ f(3) }}{{ strftime_now('%Y') if strftime_now is defined }}",
];
const JINJA = [
  ..."{% %} {{ }} {%- -%} {# #} for in if elif else endif endfor set endset macro endmacro call filter break continue is not"
    .split(" "),
  ..."defined none true and or namespace range loop.index loop.length messages m.content m['x'].y bos_token eos_token tools"
    .split(" "),
  ..."|tojson |trim |join(',') |length |list |reverse |sort |map(attribute='role') |int |replace('a','b') |indent(4) |safe"
    .split(" "),
  ...[
    "raise_exception('no')",
    "range(9)",
    "[1,2][::-1]",
    "'a' * 9",
    "1/0",
    "9**9",
    "{'a': {}}",
    "constructor",
    "__proto__",
  ],
  ...[
    "range(99999999)",
    "range(1, 0, 0)",
    "{% for i in range(90000) %}",
    "{% for j in range(90000) %}",
    "~ x ~ x",
    "'x' * 999999999",
  ],
  ...["'", '"', "(", ")", "[", "]", ":", ".", "~", "%", "*", "-1", "\u{1f642}"],
];

const template: Target = {
  name: "template",
  names: /template|tokenizer/,
  make(random, world) {
    const text = damageText(random, random.pick(TEMPLATES), JINJA);
    return {
      bytes: place(world, {
        "tokenizer.json": JSON.stringify(TOKENIZER),
        "tokenizer_config.json": JSON.stringify(TOKENIZER_CONFIG),
        "chat_template.jinja": text,
      }),
      run: async () => {
        const { applyChatTemplate } = await loadTokenizer(world.folder);
        applyChatTemplate(MESSAGES, { addGenerationPrompt: random.chance(0.5) });
      },
    };
  },
};

export const models = [safetensors, index, config, weights, tokenizer, template];
