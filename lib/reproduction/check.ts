/** What differs here from the run of a pack. */
import { describeDivision } from "../checkpoint/division.ts";
import { changedKeys } from "../checkpoint/fingerprint.ts";
import type { FirstPair, Machine, Program, Provenance } from "../checkpoint/provenance.ts";
import type { Fingerprint } from "../checkpoint/state.ts";
import { inOneForm } from "../gpu/tuning.ts";
import { own, show } from "../text/json.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { Pack } from "./pack.ts";
import type { PackedTensor } from "./weights.ts";

/** One thing that was compared. */
export interface Finding {
  what: string;
  /** As the pack has it, and as it is here; short. */
  pack: string;
  here: string;
  isEqual: boolean;
  /** Whether the weights follow from it: of what does not, a difference is no reason for other ones. */
  decides: boolean;
}

/** What there is here of what a run begins with. */
export interface Here extends Program {
  /** Absent without an adapter. */
  device?: string;
  kernels?: Machine["kernels"];
  run: Fingerprint;
  dataFiles: string[];
  steps: number;
  trainPairs: number;
  pairs: FirstPair[];
}

const NOTHING = "nothing";

const finding = (
  what: string,
  pack: string | undefined,
  here: string | undefined,
  decides = true,
): Finding => ({
  what,
  pack: pack ?? NOTHING,
  here: here ?? NOTHING,
  isEqual: pack === here,
  decides,
});

/** Hashes by their beginnings: whoever wants more has them in pack.json. */
const hash = (what: string, pack: string | undefined, here: string | undefined): Finding => ({
  ...finding(what, pack?.slice(0, 12), here?.slice(0, 12)),
  isEqual: pack === here,
});

/** Everything that a run's weights follow from, of the pack and here. */
export function compareStart(pack: Pack, here: Here): Finding[] {
  const keys = changedKeys(here.run.config, pack.run.config);
  /** Files by their names, of the model or of the one that it is compared with. */
  const files = (field: "model" | "reference") => {
    const [there, now] = [pack.run[field] ?? {}, here.run[field] ?? {}];
    return [...new Set([...Object.keys(there), ...Object.keys(now)])]
      .map((name) => hash(`${field}: ${name}`, own(there, name), own(now, name)));
  };
  const [packData, hereData] = [pack, here].map(({ run, dataFiles }) =>
    [...run.train, ...run.test ?? []].map((sha256, i) => ({ sha256, name: dataFiles[i] }))
  );
  const longer = packData.length >= hereData.length ? packData : hereData;
  return [
    finding("simper", pack.version, here.version),
    finding("engine", pack.engine, here.engine),
    finding("platform", pack.platform, here.platform, false),
    finding("adapter", pack.device, here.device),
    ...tiles(pack.kernels, here.kernels),
    // How many there will be is said by whoever starts the run.
    ...(pack.division
      ? [finding("ranks", describeDivision(pack.division), "as many as mpirun starts", false)]
      : []),
    ...(keys.length === 0
      ? [finding("configuration", "all keys", "all keys")]
      : keys.map(({ key, there, now }) => finding(key, show(there), show(now)))),
    ...files("model"),
    ...files("reference"),
    hash("tokenizer", pack.run.tokenizer, here.run.tokenizer),
    hash("chat template", pack.run.template, here.run.template),
    ...(pack.run.date === undefined && here.run.date === undefined
      ? []
      : [finding("chat template's date", pack.run.date, here.run.date)]),
    finding("rules of tokens", String(pack.run.rules), String(here.run.rules)),
    ...longer.map(({ name }, i) => hash(`data: ${name}`, packData[i]?.sha256, hereData[i]?.sha256)),
    ...(pack.run.loss === undefined && here.run.loss === undefined
      ? []
      : [hash("loss", pack.run.loss, here.run.loss)]),
    finding("training pairs", String(pack.trainPairs), String(here.trainPairs)),
    finding("steps", String(pack.steps), String(here.steps)),
    ...pack.pairs.map((pair, i) => comparePair(pair, here.pairs[i], i)),
  ];
}

/** How a run here was made, and its keys where they are others than the pack's. */
export const compareRun = (
  pack: Pack,
  { run, division }: Pick<Provenance, "run" | "division">,
): Finding[] => [
  ...changedKeys(run.config, pack.run.config).map(({ key, there, now }) =>
    finding(`the run's ${key}`, show(there), show(now))
  ),
  ...(pack.division || division
    ? [finding("the run's ranks", describeDivision(pack.division), describeDivision(division))]
    : []),
];

/** How products are computed: what is alike in one word, what differs by its shapes. */
function tiles(pack: Machine["kernels"], here: Machine["kernels"] | undefined): Finding[] {
  if (!here) return [finding("tiles", "of its adapter", undefined)];
  const [there, now] = [pack, here].map((record) =>
    Object.fromEntries(
      // Earlier packs have what computes alike in other forms too.
      Object.entries(inOneForm(record)).flatMap(([key, value]) =>
        key === "buffer"
          ? Object.entries(value).map(([shape, tile]) => [shape, String(tile)])
          : [[key, JSON.stringify(value)]]
      ),
    )
  );
  const names = [...new Set([...Object.keys(there), ...Object.keys(now)])];
  const different = names.filter((name) => own(there, name) !== own(now, name));
  if (different.length === 0) return [finding("tiles", "all", "all")];
  return different.map((name) => finding(`tiles: ${name}`, own(there, name), own(now, name)));
}

function comparePair(pack: FirstPair, here: FirstPair | undefined, i: number): Finding {
  const text = (pair: FirstPair | undefined) =>
    pair &&
    `pair ${pair.index}: ${
      pair.responses.map(({ tokens, promptLength }) => `${promptLength}+${tokens - promptLength}`).join(", ")
    } tokens`;
  const isEqual = JSON.stringify(pack) === JSON.stringify(here);
  const found = { ...finding(`tokens and labels ${i + 1}`, text(pack), text(here)), isEqual };
  if (isEqual || !here) return found;
  // Where the counts are alike, the first ids that are not say more.
  for (const [r, response] of pack.responses.entries()) {
    const other = here.responses[r];
    for (const part of ["ids", "labels"] as const) {
      const at = response[part].findIndex((id, j) => id !== other?.[part][j]);
      if (at < 0) continue;
      const place = `${part === "ids" ? "token" : "label"} ${at + 1} of ${r === 0 ? "chosen" : "rejected"}: `;
      return { ...found, pack: place + response[part][at], here: place + (other?.[part][at] ?? NOTHING) };
    }
  }
  return found;
}

/** The log of a run beside the pack's: equal in bits, or how far apart and from where on. */
export function compareLogs(pack: readonly LogEntry[], here: readonly LogEntry[]): Finding[] {
  const keyOf = (entry: LogEntry) =>
    `${entry.step} ${"eval_loss" in entry ? "eval" : "train_loss" in entry ? "end" : ""}`;
  const there = new Map(here.map((entry) => [keyOf(entry), entry]));
  let largest = { difference: 0, figure: "", step: 0 };
  let first: { step: number; pack: string; here: string } | undefined;
  for (const entry of pack) {
    const { step } = entry;
    const other = there.get(keyOf(entry));
    if (!other) first ??= { step, pack: "an entry", here: NOTHING };
    for (const [figure, value] of Object.entries(entry)) {
      // Figures that are no finite numbers are null in both.
      if (!other || other[figure] === value) continue;
      first ??= { step, pack: `${figure} ${value}`, here: `${figure} ${other[figure] ?? NOTHING}` };
      const difference = Math.abs(value - other[figure]) / Math.max(Math.abs(value), Number.MIN_VALUE);
      if (difference > largest.difference) largest = { difference, figure, step };
    }
  }
  if (!first) {
    return [{ ...finding("log", `${pack.length} entries`, undefined), here: "equal in bits", isEqual: true }];
  }
  const found = [{
    ...finding(`log: first difference, step ${first.step}`, first.pack, first.here),
    isEqual: false,
  }];
  if (largest.difference === 0) return found;
  return [...found, {
    ...finding("log: largest difference", `${largest.figure}, step ${largest.step}`, undefined),
    here: `${largest.difference.toExponential(1)} of its value`,
  }];
}

/** The weights of a run beside the pack's. */
export function compareWeights(
  pack: Readonly<Record<string, PackedTensor>>,
  here: Readonly<Record<string, PackedTensor>>,
): Finding[] {
  const names = [...new Set([...Object.keys(pack), ...Object.keys(here)])];
  const odd = names.filter((name) =>
    own(pack, name)?.dtype !== own(here, name)?.dtype ||
    String(own(pack, name)?.shape) !== String(own(here, name)?.shape)
  );
  if (odd.length > 0) {
    const text = (tensor: PackedTensor | undefined) => tensor && `${tensor.dtype} [${tensor.shape}]`;
    return odd.slice(0, 8).map((name) =>
      finding(`weights: ${name}`, text(own(pack, name)), text(own(here, name)))
    );
  }
  const different = names.filter((name) => pack[name].sha256 !== here[name].sha256);
  if (different.length === 0) {
    return [{
      ...finding("weights", `${names.length} tensors`, undefined),
      here: "equal in bits",
      isEqual: true,
    }];
  }
  let largest = { share: 0, name: different[0] };
  for (const name of different) {
    const [there, now] = [pack[name].sample, here[name].sample];
    const size = Math.max(...there.map(Math.abs), Number.MIN_VALUE);
    const share = Math.max(...there.map((value, i) => Math.abs(value - now[i]))) / size;
    if (share > largest.share) largest = { share, name };
  }
  return [
    {
      ...finding("weights", `${names.length} tensors`, `${different.length} of them differ`),
      isEqual: false,
    },
    {
      ...finding("weights: largest difference", largest.name, undefined),
      here: `${largest.share.toExponential(1)} of the largest of the numbers that the pack has of it`,
    },
  ];
}
