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
    file: "lib/generation/pieces.ts",
    tests: ["tests/generation/pieces_test.ts"],
    edits: [
      ["parts of a character are given", '.replace(/[\\s\\ufffd]+$/u, "")', ""],
      ["a text that changes is given again", 'if (!text.startsWith(this.#given)) return "";', ""],
    ],
  },
  {
    file: "lib/generation/model.ts",
    tests: ["tests/generation/model_test.ts"],
    edits: [
      ["a model that is gone is asked", "if (this.#isDisposed) throw this.#closed();", ""],
      [
        "log-probabilities are of the tokens before",
        "slice(-logProbabilities.length)",
        "slice(-logProbabilities.length - 1, -1)",
      ],
    ],
  },
];
