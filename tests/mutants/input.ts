import type { Edits } from "./mutants.ts";

const CONFIG = ["tests/config/config_test.ts", "tests/config/config_rules_test.ts"];
const OVERRIDES = ["tests/config/config_overrides_test.ts"];
const HOSTILE = ["tests/safetensors/safetensors_hostile_test.ts"];
const SAFETENSORS = ["tests/safetensors/safetensors_test.ts"];

/** What is read: run files, weights, the Hub. */
export const INPUT: readonly Edits[] = [
  {
    file: "lib/data/unpaired.ts",
    tests: ["tests/data/unpaired_test.ts"],
    edits: [
      ["a prompt keeps its own response", "batch.at(i - 1)!", "batch.at(i)!"],
      ["what is put after another prompt may be longer", "mixed.slice(0, maxLength)", "mixed"],
      ["a label may be anything", 'typeof label === "boolean"', "label !== undefined"],
      ["pairs are parted one by one", "pairs.length < UNPAIRED_AT_A_TIME", "pairs.length < 1"],
    ],
  },
  {
    file: "lib/config/rules.ts",
    tests: CONFIG,
    edits: [
      [
        "the greatest loss is the best",
        'metricForBestModel && metricForBestModel !== "loss"',
        "metricForBestModel && true",
      ],
      ["what is saved need not be evaluated", "saveSteps % evalSteps !== 0", "false"],
      [
        "evaluation goes by save_steps",
        "config.evalSteps ?? config.loggingSteps",
        "config.evalSteps ?? config.saveSteps",
      ],
      [
        "an evaluation needs no test split",
        '!config.datasetSplits!.some((name) => name.includes("test"))',
        "false",
      ],
      [
        "a prompt may be as long as the whole",
        "config.maxPromptLength! >= config.maxLength!",
        "config.maxPromptLength! > config.maxLength!",
      ],
      [
        "a strategy does not turn evaluation on",
        'config.doEval || evalStrategy !== "no" || config.evalOnStart',
        "config.doEval || config.evalOnStart",
      ],
      [
        "an ignored warmup_ratio is not told of",
        "if (config.warmupSteps > 0) add",
        "if (config.warmupSteps < 0) add",
      ],
    ],
  },
  {
    file: "lib/config/values.ts",
    tests: [...CONFIG, "tests/config/config_malformed_test.ts"],
    edits: [
      ["a number may reach the bound that it must not", "read < below ?", "read <= below ?"],
      [
        "numbers written as text are text",
        "const read = numeric ? Number(value) : value;",
        "const read = value;",
      ],
      ["GiB are GB", "1024 ** (power + 1)", "1000 ** (power + 1)"],
      [
        "yes is no",
        "if (/^(true|yes|on)$/i.test(value)) return true;",
        "if (/^(true|on)$/i.test(value)) return true;",
      ],
    ],
  },
  {
    file: "lib/config/overrides.ts",
    tests: [...OVERRIDES, ...CONFIG],
    edits: [
      ["a share replaces all shares", "new Map(before instanceof Map ? before : [])", "new Map()"],
      ["text is read as YAML", "KEYS[field].type.verbatim && text", "false && text"],
      ["a flag swallows the next word", "isFlag(word.slice(2)) && boolean.read(next) === undefined", "false"],
    ],
  },
  {
    file: "lib/config/mixture.ts",
    tests: ["tests/config/paper_configs_test.ts"],
    filter: "mixture",
    edits: [
      ["weights are all 1", 'share.read(dataset.get("weight") ?? 1)', "share.read(1)"],
      ["test splits are lost", "value: [...splits, ...tests]", "value: [...splits]"],
    ],
  },
  {
    file: "lib/config/parse.ts",
    tests: CONFIG,
    edits: [
      ["the same key under two names is taken", "if (other) problems.push", "if (false) problems.push"],
      ["a refused key is taken", "allowed.includes(value) || allowed.includes(boolean.read(value))", "true"],
    ],
  },
  {
    file: "lib/config/entries.ts",
    tests: [...CONFIG, "tests/config/config_malformed_test.ts", "tests/data/hostile_inputs_test.ts"],
    filter: "/YAML|twice|alias|name|mistake|run file/",
    edits: [
      [
        "a key may be written twice",
        "if (keys.has(key.value)) duplicates.push",
        "if (false) duplicates.push",
      ],
      ["aliases have no end", "Alias: () => void aliases++", "Alias: () => void aliases"],
    ],
  },
  {
    file: "lib/errors.ts",
    tests: ["tests/errors_test.ts"],
    edits: [
      ["any word is near another", "Math.max(2, Math.floor(word.length / 3)) + 1", "word.length + 9"],
      ["no word is near another", "if (distance < bestDistance)", "if (distance < 0)"],
    ],
  },
  {
    file: "lib/text/json.ts",
    tests: ["tests/checkpoint/checkpoint_state_test.ts", "tests/data/hostile_inputs_test.ts"],
    filter: "/lists within lists|levels|deep/",
    edits: [[
      "brackets within text count as levels",
      "if (byte === 0x22) inText = !inText;\n",
      "if (byte === 0x22) inText = false;\n",
    ]],
  },
  {
    file: "lib/safetensors/header.ts",
    tests: HOSTILE,
    edits: [
      [
        "offsets may be too long for a shape",
        "bytes !== offsets[1] - offsets[0]",
        "bytes > offsets[1] - offsets[0]",
      ],
      [
        "offsets may be too short for a shape",
        "bytes !== offsets[1] - offsets[0]",
        "bytes < offsets[1] - offsets[0]",
      ],
      ["tensors may overlap", "if (start < covered)", "if (false)"],
      ["bytes may belong to no tensor", "if (start > covered)", "if (false)"],
      ["bytes may follow the last tensor", "if (covered < fileBytes)", "if (false)"],
      ["a file may be cut", "if (covered > fileBytes)", "if (false)"],
      ["a name may come twice", "if (keys[depth - 1].has(key)) return key;", ""],
      ["a header may be longer than the file", "if (Number(length) > rest)", "if (false)"],
      ["sizes may be negative", "Number.isSafeInteger(item) && item >= 0", "Number.isSafeInteger(item)"],
    ],
  },
  {
    file: "lib/safetensors/read.ts",
    tests: ["tests/checkpoint/checkpoint_hostile_test.ts", ...SAFETENSORS],
    edits: [
      [
        "a shard may lie in another folder",
        "!/^[^/\\\\:\\0]+\\.safetensors$/.test(shard)",
        "!/\\.safetensors$/.test(shard)",
      ],
      [
        "a tensor may be missing from its shard",
        "if (absent.length === 0) return;",
        "return;",
      ],
      ["reads go beyond their tensor", " || first + wanted > total", ""],
    ],
  },
  {
    file: "lib/safetensors/dtype.ts",
    tests: ["tests/safetensors/safetensors_dtype_test.ts"],
    edits: [
      ["ties go up", "0x7fff + ((word >>> 16) & 1)", "0x8000"],
      ["a NaN becomes infinity", "isNaN ? (word >>> 16) | 0x40 :", "false ? (word >>> 16) | 0x40 :"],
    ],
  },
  {
    file: "lib/safetensors/write.ts",
    tests: SAFETENSORS,
    edits: [
      [
        "narrow tensors come first",
        "DTYPE_BITS[b.dtype] - DTYPE_BITS[a.dtype]",
        "DTYPE_BITS[a.dtype] - DTYPE_BITS[b.dtype]",
      ],
      ["weights of an earlier save stay", "isWeightsFile(file) && !kept.includes(file)", "false"],
      ["a tensor may give fewer bytes", "if (written !== expected) {", "if (written > expected) {"],
    ],
  },
  {
    file: "lib/files/whole_file.ts",
    tests: SAFETENSORS,
    edits: [[
      "what failed is left under its temporary name",
      "    await rm(temporary, { force: true });\n    throw error;",
      "    throw error;",
    ]],
  },
  {
    file: "lib/hub/http.ts",
    tests: ["tests/hub/hub_refusals_test.ts"],
    filter: "redirects to http",
    edits: [[
      "https may become http",
      '(next?.protocol === "http:" && target.protocol === "http:")',
      'next?.protocol === "http:"',
    ]],
  },
  {
    file: "lib/hub/http.ts",
    tests: ["tests/hub/hub_refusals_test.ts"],
    filter: "token goes to the Hub alone",
    edits: [[
      "the token goes to other origins",
      "settings.token && target.origin === home",
      "settings.token",
    ]],
  },
  {
    file: "lib/hub/http.ts",
    tests: ["tests/hub/hub_hostile_test.ts"],
    filter: "followed eight times",
    edits: [["redirects have no end", "hops <= MAX_REDIRECTS", "hops < 1000"]],
  },
  {
    file: "lib/hub/http.ts",
    tests: ["tests/hub/hub_upload_test.ts"],
    filter: "may have been made",
    edits: [
      [
        "a commit that may have been made is sent again",
        'method === "POST" && error.after',
        "false && error.after",
      ],
      ["a commit that was put off is not sent again", " && error.after === undefined) {", ") {"],
    ],
  },
  {
    file: "lib/hub/transfer.ts",
    tests: [
      "tests/hub/hub_download_test.ts",
      "tests/hub/hub_refusals_test.ts",
      "tests/hub/hub_hostile_test.ts",
    ],
    edits: [
      ["another hash than the listing's is taken", "if (found === hash) return;", "return;"],
    ],
  },
  {
    file: "lib/hub/transfer.ts",
    tests: ["tests/hub/hub_refusals_test.ts"],
    filter: "sends more",
    edits: [["a server may send more than it said", "this.length + bytes.length > file.size", "false"]],
  },
  {
    file: "lib/hub/cache.ts",
    tests: ["tests/hub/hub_cache_test.ts"],
    filter: "cut short",
    edits: [["a file of any size in the snapshot is whole", "=== file.size", "!== undefined"]],
  },
  {
    file: "lib/hub/snapshot.ts",
    tests: ["tests/hub/hub_cache_test.ts"],
    filter: "cut short",
    edits: [[
      "a blob of any size is whole",
      "if (await sizeOf(blob) === file.size)",
      "if (await sizeOf(blob) !== undefined)",
    ]],
  },
  {
    file: "lib/hub/repo.ts",
    tests: ["tests/hub/hub_hostile_test.ts", "tests/hub/hub_refusals_test.ts"],
    edits: [
      [
        "a listed file may lie above its folder",
        'part !== "" && part !== "." && part !== "..")) return;',
        'part !== "")) return;',
      ],
    ],
  },
];
