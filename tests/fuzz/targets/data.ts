/** Data files, from their bytes to tokenized pairs, and the cache of those. */
import { Buffer } from "node:buffer";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { crc32, gzipSync } from "node:zlib";
import { openPairs } from "../../../lib/data/pairs.ts";
import { countRows } from "../../../lib/data/read.ts";
import { openStore } from "../../../lib/data/store.ts";
import { loadTokenizer } from "../../../lib/tokenizer/tokenizer.ts";
import { filesOf } from "../../../lib/data/splits.ts";
import { damageBytes, damageText } from "../bytes.ts";
import { damageJson } from "../json.ts";
import type { Random } from "../random.ts";
import { golden, goldenText, place, type Target, type World } from "../target.ts";

const GOLDEN = new URL("../../golden/data/", import.meta.url).pathname;
const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));

/** Every pair of a file, tokenized into the cache and read from it. */
async function readPairs({ folder }: World, path: string, share = 1): Promise<void> {
  const store = await openPairs({
    mixer: [{ path, share }],
    split: "train",
    tokenizer,
    vocabSize: 415,
    autoInsertEmptySystemMsg: true,
    usesRejected: true,
    maxLength: 128,
    maxPromptLength: 64,
    truncationMode: "keep_end",
    cache: join(folder, "cache"),
  });
  try {
    await store.read(Array.from({ length: store.length }, (_, i) => i));
  } finally {
    await store.close();
  }
}

function dataTarget(name: string, damage: (random: Random) => Uint8Array): Target {
  const file = `data.${name}`;
  return {
    name,
    names: new RegExp(file.replaceAll(".", "\\.")),
    make(random, world) {
      const bytes = damage(random);
      const path = join(world.folder, file);
      writeFileSync(path, bytes);
      const share = random.chance(0.2) ? 0.5 : 1;
      return {
        bytes: bytes.length,
        run: async () => {
          if (random.chance(0.1)) await countRows([path]);
          await readPairs(world, path, share);
        },
      };
    },
  };
}

const ROWS = goldenText("tests/golden/data/rows.jsonl").split("\n").filter((line) => line !== "")
  .map((line) => JSON.parse(line));
const SHAPES = [
  ...ROWS,
  { chosen: "\n\nHuman: Hi\n\nAssistant: Yes", rejected: "\n\nHuman: Hi\n\nAssistant: No" },
  { prompt: "Is it late?", chosen: " Yes.", rejected: " No." },
  { chosen: "Yes, it is", rejected: "Yes, it was" },
  {
    prompt: [{ role: "user", content: [{ type: "text", text: "Is it " }, { type: "text", text: "late?" }] }],
    chosen: [{
      role: "assistant",
      content: null,
      tool_calls: [{ function: { name: "clock", arguments: {} } }],
    }],
    rejected: [{ role: "assistant", content: "No.", name: null }],
    tools: [{ type: "function", function: { name: "clock" } }],
    documents: '[{"title": "Clocks"}]',
  },
];

function damagedLines(random: Random): Uint8Array {
  const lines = Array.from({ length: 1 + random.below(5) }, () => {
    const row = random.pick(SHAPES);
    return random.chance(0.5) ? damageJson(random, row) : JSON.stringify(row);
  });
  const bytes = new TextEncoder().encode(lines.join(random.pick(["\n", "\n", "\r\n", "\n\n", ""])));
  return random.chance(0.2) ? damageBytes(random, bytes) : bytes;
}

function damagedJson(random: Random): Uint8Array {
  const rows = Array.from({ length: 1 + random.below(5) }, () => random.pick(SHAPES));
  const text = damageJson(random, random.chance(0.5) ? rows : { version: 1, data: rows });
  const bytes = new TextEncoder().encode(random.chance(0.1) ? `\ufeff\n${text}` : text);
  return random.chance(0.25) ? damageBytes(random, bytes) : bytes;
}

/** Zipped after the damage, or damaged after it was zipped; also members one after another. */
function zipped(random: Random, bytes: Uint8Array): Uint8Array {
  const pieces = random.chance(0.8)
    ? [gzipSync(bytes)]
    : [gzipSync(bytes.subarray(0, 99)), gzipSync(bytes.subarray(99))];
  const whole = Buffer.concat(pieces);
  return random.chance(0.6) ? damageBytes(random, whole) : whole;
}

const PARQUET = ["ultrafeedback", "prompt-lists", "zstd", "gzip", "brotli", "lz4", "none", "numbers"]
  .map((name) => golden(`tests/golden/data/${name}.parquet`));

/** Most damage goes to the footer and to the headers of pages, which say how to read the rest. */
function damagedParquet(random: Random): Uint8Array {
  const source = Buffer.from(random.pick(PARQUET));
  if (random.chance(0.3)) return damageBytes(random, source, random.pick(PARQUET));
  const footer = source.length - 8 - source.readUInt32LE(source.length - 8);
  const [start, end] = random.chance(0.6)
    ? [footer, source.length - 8]
    : random.chance(0.5)
    ? [4, 80]
    : [4, footer];
  const damaged = Buffer.from(
    damageBytes(random, source.subarray(start, end), random.pick(PARQUET).subarray(4, 200)),
  );
  if (start !== footer) return Buffer.concat([source.subarray(0, start), damaged, source.subarray(end)]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(random.chance(0.9) ? damaged.length : random.pick([0, 1, 2 ** 31, 2 ** 32 - 1]));
  return Buffer.concat([source.subarray(0, footer), damaged, length, source.subarray(-4)]);
}

const CSV = [
  'prompt,chosen,rejected\n"Is it late?",Yes,"No, ""never"""\n\nq,"two\nlines",c\n',
  "instruction,input,output,label\r\nI,,a,1\r\nI,X,b,0\r\n",
  "prompt\tchosen\trejected\np\tq\tr\n",
];
const CELLS = [
  '"',
  '""',
  ",",
  "\t",
  "\r",
  "\n",
  "\r\n",
  "NA",
  "1e5",
  "True",
  "\ufeff",
  " ",
  "\0",
  '"x',
  "1".repeat(30),
  "é",
];

function damagedCsv(random: Random): Uint8Array {
  const bytes = new TextEncoder().encode(damageText(random, random.pick(CSV), CELLS));
  return random.chance(0.3) ? damageBytes(random, bytes) : bytes;
}

const ARROW = [
  "texts.arrow",
  "file.arrow",
  "saved/data-00000-of-00002.arrow",
  "splits/test/data-00000-of-00001.arrow",
]
  .map((name) => golden(`tests/golden/rows/${name}`));

/** Most damage goes to the tables before the rows, which say how to read them. */
function damagedArrow(random: Random): Uint8Array {
  const source = Buffer.from(random.pick(ARROW));
  if (random.chance(0.3)) return damageBytes(random, source, random.pick(ARROW));
  const start = random.below(source.length);
  const end = Math.min(source.length, start + 200);
  return Buffer.concat([
    source.subarray(0, start),
    damageBytes(random, source.subarray(start, end), random.pick(ARROW).subarray(0, 500)),
    source.subarray(end),
  ]);
}

const SAVED = JSON.stringify({
  _data_files: [{ filename: "data.arrow" }],
  _format_columns: null,
  _indices_files: null,
});
const DICT = JSON.stringify({ splits: ["train", "test"] });
const NAMES = [
  '"',
  "{",
  "}",
  "[",
  "]",
  "..",
  "../outside",
  "/",
  "null",
  "data.arrow",
  "train",
  "\\u0000",
  "_indices_files",
];

/** A folder of `save_to_disk`, whose files must not lead out of it. */
const saved: Target = {
  name: "saved",
  names: /state\.json|dataset_dict\.json|dataset_mixer|\.arrow/,
  make(random, world) {
    const isDict = random.chance(0.5);
    const text = damageText(random, isDict ? DICT : SAVED, NAMES);
    const bytes = place(world, {
      [isDict ? "dataset_dict.json" : "state.json"]: text,
      "train/state.json": SAVED,
      "data.arrow": ARROW[0],
    });
    return {
      bytes,
      run: async () => {
        for (const path of await filesOf(world.folder, random.pick(["train", "test"]))) {
          if (!resolve(path).startsWith(`${world.folder}/`)) throw new Error(`reads ${path}`);
        }
      },
    };
  },
};

const CARD = `---
configs:
- config_name: default
  default: true
  data_files:
  - {split: train, path: data/train-*}
  - split: test
    path: ["test.jsonl", "data/te[s]t-?.jsonl"]
- config_name: other
  data_files: "**/*.jsonl"
license: mit
---
# Pairs
`;
const YAML = [
  ..."- : { } [ ] ' \" | > & * ! # ? , --- ... configs data_files split path train config_name default ** * ? [a-z] [!a] ../ / ~ null"
    .split(" "),
  ...[
    "\n",
    "\n  ",
    "\t",
    "&a x",
    "*a",
    "!!set {a}",
    "**/",
    "[",
    "a".repeat(300),
    "../../etc/passwd",
    "/etc/passwd",
    "__proto__",
  ],
];

/** A data set's README.md, whose header says where its splits are. */
const card: Target = {
  name: "card",
  names: /README\.md|dataset_mixer/,
  make(random, world) {
    const text = new TextEncoder().encode(damageText(random, CARD, YAML));
    const bytes = random.chance(0.2) ? damageBytes(random, text) : text;
    place(world, {
      "README.md": bytes,
      "data/train-0.jsonl": "{}",
      "data/test-1.jsonl": "{}",
      "test.jsonl": "{}",
    });
    return {
      bytes: bytes.length,
      run: async () => {
        const config = random.chance(0.3) ? random.pick(["default", "other", "x"]) : undefined;
        for (const path of await filesOf(world.folder, random.pick(["train", "test"]), config)) {
          if (!resolve(path).startsWith(`${world.folder}/`)) throw new Error(`reads ${path}`);
        }
      },
    };
  },
};

let cached: Buffer | undefined;
const DATA = join(GOLDEN, "rows.jsonl");
const HASHED = [{ path: DATA, sha256: "0".repeat(64) }];

/** A file of the cache that was changed, most often with a checksum that fits: a damaged disk makes none. */
const store: Target = {
  name: "cache",
  names: /pairs|cache/,
  make(random, world) {
    const path = join(world.folder, "pairs");
    return {
      bytes: 20_000,
      run: async () => {
        if (!cached) {
          await readPairs(world, DATA);
          const folder = join(world.folder, "cache", "pairs");
          cached = readFileSync(join(folder, readdirSync(folder)[0]));
        }
        const damaged = Buffer.from(damageBytes(random, cached));
        if (random.chance(0.8) && damaged.length > 4) {
          damaged.writeUInt32LE(crc32(damaged.subarray(0, -4)), damaged.length - 4);
        }
        writeFileSync(path, damaged);
        const opened = await openStore(path, HASHED);
        if (!opened || opened === "damaged") return;
        try {
          await opened.read(Array.from({ length: opened.length }, (_, i) => i));
        } finally {
          await opened.close();
        }
      },
    };
  },
};

export const data = [
  dataTarget("jsonl", damagedLines),
  dataTarget("jsonl.gz", (random) => zipped(random, damagedLines(random))),
  dataTarget("json", damagedJson),
  dataTarget("json.gz", (random) => zipped(random, damagedJson(random))),
  dataTarget("parquet", damagedParquet),
  dataTarget("csv", damagedCsv),
  dataTarget("tsv", damagedCsv),
  dataTarget("csv.gz", (random) => zipped(random, damagedCsv(random))),
  dataTarget("arrow", damagedArrow),
  saved,
  store,
  card,
];
