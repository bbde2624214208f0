import type { Edits } from "./mutants.ts";

/** What a script gives, and what it asks a model. */
export const SCRIPTS: readonly Edits[] = [
  {
    file: "lib/training/step.ts",
    tests: ["tests/run/scripted_test.ts"],
    filter: "SimPER in TypeScript",
    edits: [
      ["a loss of the host's is not divided by the step's pairs", "Math.fround(1 / pairsOfStep)", "1"],
      [
        "both responses are weighted as chosen",
        "Math.fround(dRejected) * scale",
        "Math.fround(dChosen) * scale",
      ],
    ],
  },
  {
    file: "lib/losses/on_host.ts",
    tests: ["tests/run/scripted_test.ts"],
    filter: "SimPER in TypeScript",
    edits: [["the loss of the host is not told", "    results[4 * pair] = found.value;\n", ""]],
  },
  {
    file: "lib/losses/check.ts",
    tests: ["tests/losses/check_test.ts"],
    edits: [
      ["every derivative is good", "if (Math.abs(given - narrow) <= allowed) continue;", "continue;"],
      ["there are no kinks", "const isKink = distance > allowed &&", "const isKink = distance > Infinity &&"],
      ["all is taken for a kink", "> 0.75 * distance", "> 0.25 * distance"],
    ],
  },
  {
    file: "lib/checkpoint/fingerprint.ts",
    tests: ["tests/run/scripted_test.ts"],
    filter: "goes on with no other",
    edits: [["the source of a loss is not compared", "now.loss !== before.loss", "false"]],
  },
  {
    file: "lib/data/memory.ts",
    tests: ["tests/run/scripted_test.ts"],
    filter: "a row of memory",
    edits: [["rows of memory are all the same", 'hash.update(line).update("\\n");', ""]],
  },
  {
    file: "lib/generation/answer.ts",
    tests: ["tests/generation/answer_text_test.ts"],
    edits: [
      ["white space within is lost", "this.#space + piece", "piece"],
      ["the whole is what the pieces join to", "  end.text = ", "  // end.text = "],
    ],
  },
  {
    file: "lib/generation/model.ts",
    tests: ["tests/generation/model_test.ts"],
    edits: [
      ["a model that is gone is asked", "    if (this.#isDisposed) throw this.#closed();\n", ""],
      [
        "log-probabilities are of the tokens before",
        "slice(-logProbabilities.length)",
        "slice(-logProbabilities.length - 1, -1)",
      ],
    ],
  },
  {
    file: "lib/generation/stop.ts",
    tests: ["tests/generation/stop_test.ts"],
    edits: [
      ["the first stop of the list counts", "if (ends > 0 ||", "if (!found ||"],
      ["the beginning of a stop is shown", "text.length - longest + 1)", "text.length)"],
    ],
  },
  {
    file: "lib/generation/sampling.ts",
    tests: ["tests/generation/generation_config_test.ts"],
    edits: [
      ["do_sample is not heeded", "doSample ? own.temperature ?? 1 : 0", "own.temperature ?? 0"],
      ["what is given is not checked", "if (problems.length > 0) throw", "if (false) throw"],
    ],
  },
  {
    file: "lib/generation/answer.ts",
    tests: ["tests/cli/generate_test.ts"],
    filter: "command line",
    edits: [["a stop string is part of the answer", "(stop === undefined ? whole : shown)", "whole"]],
  },
  {
    file: "lib/cli/help.ts",
    tests: ["tests/cli/program_test.ts"],
    filter: "each command has help",
    edits: [["links are shown as Markdown has them", '.replaceAll(/\\[([^\\]]+)\\]\\([^)]*\\)/g, "$1")', ""]],
  },
  {
    file: "lib/cli/answer_file.ts",
    tests: ["tests/cli/generate_test.ts"],
    filter: "left as it is",
    edits: [
      [
        "a line of anybody's is cut off",
        "return line.startsWith(begin) || begin.startsWith(line)",
        "return true",
      ],
      ["bytes are characters", "new TextEncoder().encode(text.slice(0, end))", "text.slice(0, end)"],
    ],
  },
  {
    file: "lib/cli/entered.ts",
    tests: ["tests/cli/chat_test.ts"],
    filter: "an entry",
    edits: [["a block has its quotes' lines", 'if (entry[0] === "") entry.shift();', ""]],
  },
];
