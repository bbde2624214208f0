import type { Edits } from "./mutants.ts";

const FIGURES = ["tests/comparison/figures_test.ts"];
const RUNS = ["tests/comparison/compare_test.ts"];

/** What is compared, and what is said of it. */
export const COMPARISON: readonly Edits[] = [
  {
    file: "lib/evaluation/statistics.ts",
    tests: ["tests/evaluation/statistics_test.ts"],
    filter: "Student",
    edits: [
      ["a term of Student's series is left out", "k <= df - 3", "k < df - 3"],
      ["the variance is that of all seeds there are", "** 2, 0) / (n - 1)", "** 2, 0) / n"],
    ],
  },
  {
    file: "lib/config/comparison.ts",
    tests: ["tests/config/comparison_test.ts"],
    edits: [
      ["a member's key does not win", "[...new Map([...shared, ...own])", "[...new Map([...own, ...shared])"],
      ["all seeds are one", "seed,\n      outputDir", "outputDir"],
      ["a name may be a way out of the folder", "/^[\\w+=-][\\w.+=-]{0,99}$/", "/^[^ ]+$/"],
    ],
  },
  {
    file: "lib/comparison/figures.ts",
    tests: FIGURES,
    edits: [
      ["accuracies by log-ratio are those by sums", "sums(result) - sums(before)", "sums(result)"],
      [
        "differences are those from the later one",
        "([one, other]) => other - one",
        "([one, other]) => one - other",
      ],
      ["a difference is sure where one interval says so", "excludesZero(seeds) &&", "excludesZero(seeds) ||"],
      ["runs that no seed changes tell members apart", "!isSeedless(first) && !isSeedless(second) && ", ""],
      ["one is the best though intervals overlap", "one.low > other.high", "one.low > other.low"],
      ["the pace is the slowest", "sorted[Math.floor(at)] + sorted[Math.ceil(at)]", "2 * sorted[0]"],
    ],
  },
  {
    file: "lib/comparison/report.ts",
    tests: FIGURES,
    edits: [["an interval is shown whole", "(high - low) / 2", "high - low"]],
  },
  {
    file: "lib/comparison/kept.ts",
    tests: RUNS,
    filter: "stopped",
    edits: [
      [
        "a finished run of other keys is kept",
        "if (changed.length === 0) return",
        "if (changed.length >= 0) return",
      ],
    ],
  },
];
