import { nearest } from "../errors.ts";
import type { Entries, Entry } from "./entries.ts";
import { describe, share } from "./values.ts";

/** The newer Alignment Handbook's key for data, which TRL reads too. */
export const MIXTURE = "dataset_mixture";
/** What the reference says of it. */
export const MIXTURE_DOC =
  "the newer form of `dataset_mixer` and `dataset_splits`: `{datasets: [{id, config, split, weight, columns}]}`; " +
  "ids differ and share one split; `weight` takes the first rows, where the Handbook draws them";

const EXPECTED = "a mapping such as {datasets: [{id: data/pairs, split: train, weight: 0.5}]}";
const KEYS = ["datasets", "seed", "test_split_size"];
const DATASET_KEYS = ["id", "config", "split", "columns", "weight"];
const NEEDED_COLUMNS = ["chosen", "rejected"];

/**
 * Writes `dataset_mixture` as `dataset_mixer` and `dataset_splits`; other entries stay as they are. `dataset_splits`,
 * where it is given too, keeps its names of test splits.
 *
 * @returns also a line for each part that does nothing here, in `ignored`.
 */
export function expandMixture(entries: readonly Entry[]): Entries & { ignored: string[] } {
  const entry = entries.find(({ key }) => key === MIXTURE);
  if (!entry) return { entries: [...entries], problems: [], ignored: [] };
  const others = entries.filter((other) => other !== entry);
  const problems: string[] = [];
  const wrong = (message: string) => void problems.push(`${entry.valueAt}${message}`);
  if (others.some(({ key }) => key === "dataset_mixer")) wrong(": the same as dataset_mixer: keep one");

  const mixture = entry.value;
  const datasets = mixture instanceof Map ? mixture.get("datasets") : undefined;
  if (!(mixture instanceof Map) || !Array.isArray(datasets) || datasets.length === 0) {
    wrong(`: expected ${EXPECTED}, found ${describe(mixture)}`);
    return { entries: others, problems, ignored: [] };
  }
  unknownKeys(mixture, KEYS, "", wrong);
  if ((mixture.get("test_split_size") ?? null) !== null) {
    wrong(".test_split_size: parting off a test split is not available: give one in dataset_splits");
  }
  const mapping = others.find(({ key }) => key === "column_mapping")?.value;
  const renamed: Map<unknown, unknown> = mapping instanceof Map ? mapping : new Map();
  const mixer = new Map<string, number>();
  const splits = new Set<string>();
  const configs = new Map<string, unknown>();
  datasets.forEach((dataset, i) => {
    const at = `.datasets[${i}]`;
    const id = dataset instanceof Map ? dataset.get("id") : undefined;
    if (!(dataset instanceof Map) || typeof id !== "string" || id === "") {
      return wrong(`${at}: expected a mapping with an id, found ${describe(dataset)}`);
    }
    unknownKeys(dataset, DATASET_KEYS, at, wrong);
    if (mixer.has(id)) {
      wrong(`${at}.id: ${describe(id)} is given twice; several splits of one set are not available`);
    }
    const config = dataset.get("config") ?? "default";
    if (typeof config !== "string") wrong(`${at}.config: expected text, found ${describe(config)}`);
    configs.set(id, config);
    const columns = dataset.get("columns") ?? NEEDED_COLUMNS;
    const named = Array.isArray(columns) ? columns.map((name) => renamed.get(name) ?? name) : [];
    if (NEEDED_COLUMNS.some((name) => !named.includes(name))) {
      wrong(
        `${at}.columns: expected a list with ${
          NEEDED_COLUMNS.join(" and ")
        } in it (column_mapping renames), ` +
          `found ${describe(columns)}`,
      );
    }
    const weight = share.read(dataset.get("weight") ?? 1);
    if (weight === undefined) {
      wrong(`${at}.weight: expected ${share.expected}, found ${describe(dataset.get("weight"))}`);
    }
    mixer.set(id, weight ?? 1);
    splits.add(String(dataset.get("split") ?? "train"));
  });
  if (splits.size > 1) {
    wrong(`: expected one split of all sets, found ${[...splits].map((name) => describe(name)).join(", ")}`);
  }
  const isNamed = [...configs.values()].some((config) => config !== "default");
  if (others.some(({ key }) => key === "dataset_configs")) {
    wrong(": names configurations itself: remove dataset_configs");
  }
  const given = others.find(({ key }) => key === "dataset_splits");
  const tests = Array.isArray(given?.value)
    ? given.value.filter((name) => typeof name === "string" && !name.includes("train"))
    : [];
  const where = { at: entry.at, valueAt: entry.valueAt };
  const ignored = mixture.has("seed") ? [`${MIXTURE}.seed: ignored: seed shuffles the pairs`] : [];
  return {
    entries: [
      ...others.filter(({ key }) => key !== "dataset_splits"),
      { key: "dataset_mixer", value: mixer, ...where },
      { key: "dataset_splits", value: [...splits, ...tests], ...where },
      ...isNamed ? [{ key: "dataset_configs", value: [...configs.values()], ...where }] : [],
    ],
    problems,
    ignored,
  };
}

function unknownKeys(
  mapping: Map<unknown, unknown>,
  known: readonly string[],
  at: string,
  wrong: (message: string) => void,
): void {
  for (const key of mapping.keys()) {
    if (known.includes(String(key))) continue;
    const near = nearest(String(key), known);
    wrong(`${at}: unknown key ${describe(key)}${near ? `: did you mean ${near}?` : ""}`);
  }
}
