import { alphapo } from "./alphapo.ts";
import { aot } from "./aot.ts";
import { aotUnpaired } from "./aot_unpaired.ts";
import { apoDown } from "./apo_down.ts";
import { apoZero } from "./apo_zero.ts";
import { apoZeroUnpaired } from "./apo_zero_unpaired.ts";
import { bcoPair } from "./bco_pair.ts";
import { cpo } from "./cpo.ts";
import { literal, LOSS_DEFAULTS, type LossDefinition, type LossKeys } from "./definition.ts";
import { discopop } from "./discopop.ts";
import { exoPair } from "./exo_pair.ts";
import { hinge } from "./hinge.ts";
import { ipo } from "./ipo.ts";
import { kto } from "./kto.ts";
import { type BuiltInLoss, type Loss, sourceOf } from "./loss.ts";
import { ncaPair } from "./nca_pair.ts";
import { orpo } from "./orpo.ts";
import { robust } from "./robust.ts";
import { sft } from "./sft.ts";
import { sigmoid } from "./sigmoid.ts";
import { sigmoidNorm } from "./sigmoid_norm.ts";
import { simper } from "./simper.ts";
import { simpo } from "./simpo.ts";
import { slic } from "./slic.ts";
import { sppoHard } from "./sppo_hard.ts";

/** The names of the losses, as `loss_type` has them: TRL's, where it has the loss. */
export const LOSS_NAMES = [
  "simper",
  "sft",
  "sigmoid",
  "hinge",
  "ipo",
  "robust",
  "exo_pair",
  "nca_pair",
  "bco_pair",
  "sppo_hard",
  "aot",
  "aot_unpaired",
  "apo_zero",
  "apo_down",
  "discopop",
  "sigmoid_norm",
  "simpo",
  "alphapo",
  "cpo",
  "slic",
  "orpo",
  "kto",
  "apo_zero_unpaired",
] as const;

/** One of them. */
export type LossName = typeof LOSS_NAMES[number];

/** A `loss_type`: one, or several that are added up. */
export type LossType = LossName | readonly LossName[];

/** What the losses are made of, by their names. */
export const DEFINITIONS: Readonly<Record<LossName, LossDefinition>> = {
  simper,
  sft,
  sigmoid,
  hinge,
  ipo,
  robust,
  exo_pair: exoPair,
  nca_pair: ncaPair,
  bco_pair: bcoPair,
  sppo_hard: sppoHard,
  aot,
  aot_unpaired: aotUnpaired,
  apo_zero: apoZero,
  apo_down: apoDown,
  discopop,
  sigmoid_norm: sigmoidNorm,
  simpo,
  alphapo,
  cpo,
  slic,
  orpo,
  kto,
  apo_zero_unpaired: apoZeroUnpaired,
};

/** What a configuration says of its loss. */
export interface LossConfig extends LossKeys {
  lossType: LossType;
  /** Those of several losses; by default 1. */
  lossWeights?: readonly number[];
}

/** The names of a `loss_type`, whether one or several. */
export const namesOf = (lossType: LossType): readonly LossName[] =>
  typeof lossType === "string" ? [lossType] : lossType;

/** A `loss_type` as one text, for people and files. */
export const lossName = (lossType: LossType): string => namesOf(lossType).join("+");

/** A loss with its weight in a sum. */
interface Term {
  of: LossDefinition;
  weight: number;
}

/**
 * `text` with every function and constant that it declares under a name of its own, so that texts can stand together.
 */
function apart(text: string, suffix: string): string {
  const declared = new Set([...text.matchAll(/\b(?:fn|const)\s+(\w+)/g)].map(([, name]) => name));
  return text.replace(/\b[A-Za-z]\w*\b/g, (name) => declared.has(name) ? `${name}_${suffix}` : name);
}

/** WGSL of a weighted sum. */
function wgslOfSum(terms: readonly Term[], keys: LossKeys): string {
  if (terms.length === 1 && terms[0].weight === 1) return terms[0].of.wgsl(keys);
  const texts = terms.map(({ of }) => apart(of.wgsl(keys), of.name));
  const added = terms.map(({ of, weight }) =>
    `  l = preference_loss_${of.name}(chosen, rejected);
  all = Loss(
    all.value + f32(${literal(weight)}) * l.value,
    all.d_chosen + f32(${literal(weight)}) * l.d_chosen,
    all.d_rejected + f32(${literal(weight)}) * l.d_rejected,
  );
`
  );
  return `${texts.join("")}fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  var all = Loss();
  var l = Loss();
${added.join("")}  return all;
}
`;
}

/**
 * The loss that a configuration names, with its constants.
 *
 * @example SimPER with a part of the chosen responses' likelihood
 * ```ts
 * import { LOSS_DEFAULTS } from "./definition.ts";
 * import { lossOf } from "./losses.ts";
 * const loss = lossOf({ ...LOSS_DEFAULTS, lossType: ["simper", "sft"], lossWeights: [1, 0.1] });
 * if (loss.name !== "simper+sft") throw new Error(loss.name);
 * ```
 */
export function lossOf(config: LossConfig): BuiltInLoss {
  const names = namesOf(config.lossType);
  const terms: Term[] = names.map((name, i) => ({
    of: DEFINITIONS[name],
    weight: config.lossWeights?.[i] ?? 1,
  }));
  if (config.chosenAnchor !== 0) terms.push({ of: sft, weight: config.chosenAnchor });
  const definitions = names.map((name) => DEFINITIONS[name]);
  // Beside another loss, sft only adds to it: what is logged are the other's rewards.
  const main = definitions.find((of) => of !== sft) ?? sft;
  const figures = definitions.flatMap(({ figures }) => figures ? [figures(config)] : []);
  const { ldAlpha, useWeighting, refaLambda } = config;
  return {
    name: lossName(config.lossType),
    wgsl: wgslOfSum(terms, config),
    usesRejected: definitions.some(({ usesRejected = true }) => usesRejected),
    usesReference: !config.referenceFree && definitions.some(({ usesReference = false }) => usesReference),
    isJudged: definitions.some(({ isJudged = false }) => isJudged),
    reward: main.reward(config),
    figures: (chosen, rejected) => Object.assign({}, ...figures.map((of) => of(chosen, rejected))),
    definitions,
    ...ldAlpha !== undefined && ldAlpha !== 1 && { ldAlpha },
    ...useWeighting && { useWeighting },
    ...refaLambda !== 0 && { refaLambda },
  };
}

/** Every loss with TRL's defaults; of exo_pair, which has none that works, with its paper's. */
export const losses: Readonly<Record<LossName, BuiltInLoss>> = Object.fromEntries(
  LOSS_NAMES.map((lossType) => [
    lossType,
    lossOf({ ...LOSS_DEFAULTS, lossType, labelSmoothing: lossType === "exo_pair" ? 1e-3 : 0 }),
  ]),
) as Record<LossName, BuiltInLoss>;

/** Whether these are names of losses that are there: a script's own has another. */
export const areKnown = (lossType: LossType): boolean =>
  namesOf(lossType).every((name) => (LOSS_NAMES as readonly string[]).includes(name));

/** Whether a run's loss follows from the keys of its configuration, and is not a script's own. */
export const followsFrom = (config: LossConfig, loss: Loss): boolean =>
  areKnown(config.lossType) && sourceOf(loss) === sourceOf(lossOf(config));

/** Whether a run with this loss has no kernels but the program's own: of a script's WGSL nothing is known. */
export const areProven = (config: LossConfig, loss: Loss): boolean =>
  !("wgsl" in loss) || followsFrom(config, loss);

/** What a loss is and where it was published, for the log. */
export const describeLoss = ({ name, definitions }: BuiltInLoss): string =>
  `loss: ${name}: ${
    definitions.map(({ title, url, formula }) => `${title} (${url}): ${formula}`).join("; ")
  }`;

/**
 * Whether the rewards that are logged under the loss of this name, as `lossName` gives it, are mean
 * log-probabilities.
 */
export const rewardsAreMeans = (name: string): boolean =>
  name.split("+").every((part) =>
    part === "simper" || !(LOSS_NAMES as readonly string[]).includes(part) || part === "sft"
  );
