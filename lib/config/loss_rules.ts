/** What is wrong between a loss and the keys that losses read. */
import { LOSS_DEFAULTS, type LossKeys } from "../losses/definition.ts";
import { areKnown, DEFINITIONS, LOSS_NAMES, type LossName, namesOf } from "../losses/losses.ts";
import type { Entry } from "./entries.ts";
import { keyOf, type TrainConfig } from "./schema.ts";

/** Those that change every loss of a list but sft, which has nothing of what they change. */
const OF_ALL = [
  "fDivergenceType",
  "fAlphaDivergenceCoef",
  "ldAlpha",
  "useWeighting",
  "referenceFree",
] as const;

/** The keys of losses. */
const LOSS_FIELDS = [
  ...Object.keys(LOSS_DEFAULTS) as (keyof typeof LOSS_DEFAULTS)[],
  ...["gammaBetaRatio", "cpoAlpha", "ldAlpha"] as const,
];

/** Values that ask for nothing, which no loss need read. */
const IDLE: Partial<Record<keyof LossKeys, unknown>> = {
  alpha: 0,
  labelSmoothing: 0,
  ldAlpha: 1,
  cpoAlpha: 0,
  fDivergenceType: "reverse_kl",
  useWeighting: false,
  referenceFree: false,
  desirableWeight: 1,
  undesirableWeight: 1,
  chosenAnchor: 0,
  refaLambda: 0,
};

/** Of the published configurations of SimPER, where they do nothing. */
const PUBLISHED = ["beta", "gammaBetaRatio"] as const;

const readersOf = (field: keyof LossKeys): LossName[] =>
  LOSS_NAMES.filter((name) => DEFINITIONS[name].reads.includes(field));

const isPublished = (field: keyof TrainConfig, { lossType }: Partial<TrainConfig>): boolean =>
  lossType === "simper" && (PUBLISHED as readonly string[]).includes(field);

/** Whether a field is a loss's that does nothing under the configuration's loss, or beside its other keys. */
export function isUnread(
  field: keyof TrainConfig,
  { lossType, fDivergenceType, gammaBetaRatio }: Pick<
    TrainConfig,
    "lossType" | "fDivergenceType" | "gammaBetaRatio"
  >,
): boolean {
  const own = LOSS_FIELDS.find((name) => name === field);
  if (own === undefined || !areKnown(lossType)) return false;
  if (own === "fAlphaDivergenceCoef" && fDivergenceType !== "alpha_divergence") return true;
  if (own === "simpoGamma" && gammaBetaRatio !== undefined) return true;
  return !namesOf(lossType).some((name) => DEFINITIONS[name].reads.includes(own));
}

/** A line for each key of SimPER's published configurations that was given and does nothing under it. */
export function idleLossKeys(config: TrainConfig, written: ReadonlyMap<string, Entry>): string[] {
  const idle = PUBLISHED.flatMap((field) => {
    const entry = written.get(field);
    return entry && entry.value !== null && isPublished(field, config) ? [entry.key] : [];
  });
  // Configurations of DPO and SimPO name no loss either, since their trainers have but one.
  const hint = written.has("lossType")
    ? ""
    : ", which is trained without a loss_type: DPO is sigmoid, SimPO simpo";
  return idle.map((key, i) => `${key}: ignored: simper has no such parameter${i === 0 ? hint : ""}`);
}

/** Robust DPO multiplies its gradients by 1 / (1 - 2 label_smoothing): from here on it is told. */
const LARGE_FACTOR = 100;

/** A line for each value that a loss takes, as TRL does, and that is hardly meant. */
export function oddLossValues(
  { lossType, lossWeights, labelSmoothing }: TrainConfig,
  written: ReadonlyMap<string, Entry>,
): string[] {
  if (!areKnown(lossType)) return [];
  const names = namesOf(lossType);
  const key = (field: keyof TrainConfig) => written.get(field)?.key ?? keyOf(field);
  const lines = names.flatMap((name, i) => {
    const weight = lossWeights?.[i] ?? 1;
    if (weight > 0) return [];
    const what = weight === 0 ? "that it trains nothing" : "that it is made large, not small";
    return [`${key("lossWeights")}: ${name} has ${weight}, so ${what}`];
  });
  const factor = 1 / (1 - 2 * Math.fround(labelSmoothing));
  if (names.includes("robust") && factor > LARGE_FACTOR) {
    lines.push(
      `${key("labelSmoothing")}: ${labelSmoothing} makes gradients of robust ${
        factor.toPrecision(3)
      } times as large: it divides by 1 - 2 label_smoothing`,
    );
  }
  return lines;
}

/** Whether a probability is neither 0 nor 1 as a normal float32; drivers may take smaller ones for 0. */
const isInside = (probability: number): boolean =>
  Math.fround(probability) >= 2 ** -126 && Math.fround(probability) < 1;

/** What is wrong, one message each; keys whose own values are wrong are left out of `config`. */
export function lossProblems(
  config: Partial<TrainConfig>,
  written: ReadonlyMap<string, Entry>,
): string[] {
  const { lossType, lossWeights, labelSmoothing } = config;
  if (lossType === undefined || !areKnown(lossType)) return [];
  const names = namesOf(lossType);
  const problems: string[] = [];
  const at = (field: keyof TrainConfig) => written.get(field)?.valueAt ?? keyOf(field);
  for (const field of LOSS_FIELDS) {
    const entry = written.get(field);
    const value = config[field];
    const isIdle = !entry || value === undefined || value === IDLE[field] || isPublished(field, config);
    if (isIdle) continue;
    const readers = readersOf(field);
    const ofAll = (OF_ALL as readonly string[]).includes(field);
    const wanting = names.filter((name) =>
      !readers.includes(name) && !(ofAll && name === "sft" && field !== "ldAlpha")
    );
    const isRead = ofAll
      ? wanting.length === 0 && names.some((name) => readers.includes(name))
      : wanting.length < names.length;
    if (isRead) continue;
    const not = ofAll && wanting.length > 0 ? wanting : names;
    problems.push(
      `${entry.valueAt}: loss_type: ${not.join(" and ")} ${
        not.length > 1 ? "do" : "does"
      } not read it: remove it; ` +
        `${readers.join(", ")} ${readers.length > 1 ? "do" : "does"}`,
    );
  }
  if (lossWeights && lossWeights.length !== names.length) {
    problems.push(
      `${at("lossWeights")}: expected a weight for each of the ${names.length} losses of loss_type (${
        names.join(", ")
      }), found ${lossWeights.length}`,
    );
  }
  const judged = names.filter((name) => DEFINITIONS[name].isJudged);
  if (judged.length > 0 && judged.length < names.length) {
    const others = names.filter((name) => !judged.includes(name));
    problems.push(
      `${at("lossType")}: ${judged.join(" and ")} reads single responses that were judged, and ${
        others.join(" and ")
      } pairs: they cannot be added up`,
    );
  }
  // Of both it and 1 - label_smoothing, which are float32s, it takes the logarithm.
  if (names.includes("exo_pair") && labelSmoothing !== undefined && !isInside(labelSmoothing)) {
    problems.push(
      `${
        at("labelSmoothing")
      }: expected label_smoothing above 0 with exo_pair, and below 1 (both as a float32), ` +
        `found ${labelSmoothing}: its paper has 1e-3`,
    );
  }
  if (lossWeights?.length === names.length && lossWeights.every((weight) => weight === 0)) {
    problems.push(`${at("lossWeights")}: expected a weight that is not 0: nothing would be trained`);
  }
  // 1 - 2 label_smoothing, which the loss is divided by, is a float32.
  if (names.includes("robust") && labelSmoothing !== undefined && Math.fround(labelSmoothing) >= 0.5) {
    problems.push(
      `${at("labelSmoothing")}: expected label_smoothing below 0.5 (as a float32) with robust, found ` +
        `${labelSmoothing}: labels would be wrong more often than not`,
    );
  }
  if (
    config.gammaBetaRatio !== undefined && written.has("simpoGamma") && !isPublished("gammaBetaRatio", config)
  ) {
    problems.push(
      `${
        at("gammaBetaRatio")
      }: simpo_gamma is given too, and gamma_beta_ratio is simpo_gamma over beta: keep one`,
    );
  }
  const { beta, gammaBetaRatio } = config;
  const isMarginRead = names.some((name) => DEFINITIONS[name].reads.includes("gammaBetaRatio"));
  if (
    isMarginRead && beta !== undefined && gammaBetaRatio !== undefined &&
    !Number.isFinite(Math.fround(beta * gammaBetaRatio))
  ) {
    problems.push(
      `${
        at("gammaBetaRatio")
      }: expected gamma_beta_ratio times beta up to 3.4e38 (arithmetic is float32), found ` +
        `${gammaBetaRatio} times ${beta}`,
    );
  }
  const isAlpha = config.fDivergenceType === "alpha_divergence";
  // TRL's default, as a configuration that was written out has it, asks for nothing.
  const asksForAlpha = written.has("fAlphaDivergenceCoef") &&
    config.fAlphaDivergenceCoef !== LOSS_DEFAULTS.fAlphaDivergenceCoef;
  if (asksForAlpha && config.fDivergenceType !== undefined && !isAlpha) {
    problems.push(
      `${
        at("fAlphaDivergenceCoef")
      }: it is read where f_divergence_type is alpha_divergence, found ${config.fDivergenceType}`,
    );
  }
  return problems;
}
