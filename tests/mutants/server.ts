import type { Edits } from "./mutants.ts";

const COMPLETIONS = ["tests/server/completions_test.ts"];
const CHAT = ["tests/server/chat_completions_test.ts"];
const LIMITS = ["tests/server/limits_test.ts"];
const REFUSALS = ["tests/server/refusals_test.ts"];
const PAGE = ["tests/server/page_test.ts"];

/** What is served. */
export const SERVER: readonly Edits[] = [
  {
    file: "lib/server/guard.ts",
    tests: REFUSALS,
    edits: [
      ["any host leads here", "isLoopback && !LOOPBACK.includes(hostname)", "false"],
      ["pages of every origin may ask", "origin !== null && origin !== own", "false && origin !== own"],
      ["a key need only begin so", "isSame(given, apiKey)", "given.startsWith(apiKey)"],
      ["what a browser asks first brings a key", '|| request.method === "OPTIONS"', ""],
    ],
  },
  {
    file: "lib/server/answering.ts",
    tests: LIMITS,
    edits: [
      ["who goes away is answered on", 'request.signal.addEventListener("abort", leave);', ""],
      ["a place is never given back", "    release();\n", ""],
      [
        "an answer takes as long as it takes",
        "const timer = setTimeout(late, 1000 * seconds);",
        "const timer = 0;",
      ],
    ],
  },
  {
    file: "lib/server/answering.ts",
    tests: REFUSALS,
    edits: [
      [
        "a prompt may fill the context",
        "const asked = maxTokens ?? 1;",
        "const asked = maxTokens === undefined ? 1 : 0;",
      ],
      ["a token beyond the vocabulary is asked for", "id < generator.vocabSize", "id <= generator.vocabSize"],
    ],
  },
  {
    file: "lib/server/body.ts",
    tests: LIMITS,
    edits: [
      ["a body without a length has no end", "if (length > bounds.bytes)", "if (length > 99 * bounds.bytes)"],
      ["a body may take for ever", "isLate = true;", ""],
    ],
  },
  {
    file: "lib/server/logprobs.ts",
    tests: COMPLETIONS,
    edits: [
      ["a prompt's first token is left out", "if (first !== undefined) add(", "if (false) add("],
      ["the token itself is not among the likeliest", "if (!top.has(text)) top.set(text, value);", ""],
    ],
  },
  {
    file: "lib/generation/answer_text.ts",
    tests: COMPLETIONS,
    edits: [
      ["what may begin a stop is lost", "return piece + this.#held;", "return piece;"],
      [
        "a part of a character is given",
        'if (piece === "" || isPart) return "";',
        'if (piece === "") return "";',
      ],
      [
        "what is left is lost",
        "return this.#given < this.#ids.length ? await this.#new()",
        'return false ? ""',
      ],
    ],
  },
  {
    file: "lib/server/answer.ts",
    tests: CHAT,
    edits: [
      ["the end token is text", "if (eosTokenIds.includes(token.id)) {", "if (false) {"],
    ],
  },
  {
    file: "lib/server/sampling.ts",
    tests: COMPLETIONS,
    edits: [
      ["choices are all the same", "first < SEEDS - i ? first + i", "first < SEEDS - i ? first"],
      ["generation_config.json is not read", "...defaults, seed", "seed"],
    ],
  },
  {
    file: "lib/data/pair_of.ts",
    tests: CHAT,
    edits: [["a system message may be left out", "return isThere ? rendered", "return true ? rendered"]],
  },
  {
    file: "lib/server/page.ts",
    tests: PAGE,
    edits: [["a vote has no prompt", "[...prompt, { role", "[{ role"]],
  },
];
