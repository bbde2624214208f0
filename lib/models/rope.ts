import { isObject, show } from "../text/json.ts";
import type { Fields } from "./fields.ts";
import { ropeInverseFrequencies, type RopeScaling, type RopeSpec } from "../graph/rope_table.ts";

type RopeType = RopeScaling["type"];

/** What differs from one class of transformers to another. */
export interface RopeClass {
  headDim: number;
  maxPositionEmbeddings: number;
  /** Where config.json says none; by default 10000. */
  theta?: number;
  /** The key outside `rope_parameters` that theta may have; null: there is none. */
  thetaKey?: string | null;
  /** The share of each head that is rotated where config.json says none; absent: the class rotates whole heads only. */
  partial?: number;
  partialKey?: string;
  /** Whether the class cannot do without that share: null is refused. */
  isPartialNeeded?: boolean;
  /**
   * The class's own default of `original_max_position_embeddings`: it counts whatever the set of the rotation says.
   * Absent: the key outside the set counts, then inside, then `maxPositionEmbeddings`.
   */
  originalMaxPositionEmbeddings?: number;
  interleaved?: boolean;
  /** `rope_parameters` where config.json has none. */
  parameters?: Record<string, unknown>;
  /** Those that the class takes; by default all. */
  types?: readonly RopeType[];
  /** The class knows "longrope" by these names too: Phi-3's "su" and "yarn". */
  longropeNames?: readonly string[];
  /** Whether "dynamic" may have Hunyuan's `alpha`. */
  alpha?: boolean;
}

const ROPE_TYPES: RopeType[] = ["default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional"];
const MOST = 2 ** 31;

/**
 * The rotary position embedding that a config.json describes by `rope_theta` and `rope_scaling` (transformers 4) or
 * `rope_parameters` (5). Follows RotaryEmbeddingConfigMixin: which counts where both are there, and which of
 * transformers' keys may be left out; keys that it does not know are passed over, as there. Problems go to `top`, by
 * key.
 */
export function parseRope(top: Fields, of: RopeClass): RopeSpec {
  const key = isFilled(top.value("rope_scaling")) ? "rope_scaling" : "rope_parameters";
  const value = top.value(key) ?? of.parameters ?? {};
  if (!isObject(value)) {
    top.problem(`${key}: expected an object, found ${show(value)}`);
    return ropeOf(top, top.of(key, {}), of, true);
  }
  if (isFilled(value.full_attention) || isFilled(value.sliding_attention)) {
    top.problem(`${key}: a set for each layer type is not supported yet`);
  }
  return ropeOf(top, top.of(key, value), of, true);
}

/**
 * The same for classes with a set for each layer type (Gemma 3, OLMo 3): `rope_parameters` has an object under each
 * of their names, or none, and `rope_scaling` changes that of "full_attention".
 */
export function parseRopes<LayerType extends string>(
  top: Fields,
  classes: Record<LayerType, RopeClass>,
): Record<LayerType, RopeSpec> {
  const given = top.value("rope_parameters") ?? {};
  const scaling = top.value("rope_scaling") ?? {};
  const names = Object.keys(classes) as LayerType[];
  if (!isObject(given)) top.problem(`rope_parameters: expected an object, found ${show(given)}`);
  else {
    for (const [name, set] of Object.entries(given)) {
      if (set === null || isObject(set)) continue;
      top.problem(
        `rope_parameters.${name}: expected an object for each of ${names.join(", ")}, found ${show(set)}`,
      );
    }
  }
  if (!isObject(scaling)) top.problem(`rope_scaling: expected an object, found ${show(scaling)}`);
  const specs = names.map((name) => {
    const set = isObject(given) && isObject(given[name]) ? given[name] : {};
    const isScaled = name === "full_attention" && isObject(scaling) && isFilled(scaling);
    const value = isScaled ? { ...set, ...scaling } : set;
    const key = isScaled ? "rope_scaling" : `rope_parameters.${name}`;
    // transformers 5 ends with an UnboundLocalError at the second sequence beyond the original length.
    const types = (classes[name].types ?? ROPE_TYPES).filter((type) => type !== "longrope");
    return [name, ropeOf(top, top.of(key, value), { ...classes[name], types }, false)] as const;
  });
  return Object.fromEntries(specs) as Record<LayerType, RopeSpec>;
}

/** @param isOnly whether there is one set for all layers, for which keys outside it count too. */
function ropeOf(top: Fields, fields: Fields, of: RopeClass, isOnly: boolean): RopeSpec {
  const { headDim, interleaved = false, thetaKey = "rope_theta" } = of;
  const usual = of.theta ?? 10_000;
  const isInside = thetaKey === null || fields.value("rope_theta") !== undefined;
  const theta = isInside ? fields.positive("rope_theta", usual) : top.positive(thetaKey, usual);
  const typeKey = fields.value("rope_type") === undefined ? "type" : "rope_type";
  const named = fields.oneOf(typeKey, [...of.types ?? ROPE_TYPES, ...of.longropeNames ?? []], "default");
  const type = of.longropeNames?.includes(named!) ? "longrope" : (named ?? "default") as RopeType;

  const share = shareOf(top, fields, of);
  const isWhole = type === "proportional" || (of.partial === undefined && type === "default");
  const dimensions = isWhole ? headDim : Math.trunc(headDim * share);
  if (of.partial === undefined && dimensions < headDim) {
    top.problem(
      `${
        of.partialKey ?? "partial_rotary_factor"
      }: ${share} is not supported with ${type}: heads are rotated whole`,
    );
  } else if (headDim % 2 === 0 && (dimensions < 2 || dimensions % 2 > 0)) {
    top.problem(
      `head_dim ${headDim}: ${dimensions} numbers of each head are rotated: expected an even number`,
    );
  }
  // A class that has the key of its own looks at it whatever the type is.
  const own = of.originalMaxPositionEmbeddings;
  const original = own && top.count("original_max_position_embeddings", MOST, own);
  const scaling = scalingOf(type, top, fields, of, { dimensions, share, isOnly, original });
  const spec = { theta, dimensions, interleaved, ...scaling };
  const numbers = top.problems.length > 0 ? [] : [
    ...ropeInverseFrequencies(spec),
    ...ropeInverseFrequencies(spec, MOST),
    "attentionFactor" in spec ? spec.attentionFactor : 1,
  ];
  if (!numbers.every(Number.isFinite)) {
    fields.problem(
      `${typeKey}: ${type} gives frequencies that are no finite numbers with the keys beside it`,
    );
  }
  return spec;
}

/** partial_rotary_factor: inside the set before outside. */
function shareOf(
  top: Fields,
  fields: Fields,
  { partial = 1, partialKey = "partial_rotary_factor", isPartialNeeded }: RopeClass,
): number {
  if (
    isPartialNeeded && top.value(partialKey) === null && fields.value("partial_rotary_factor") === undefined
  ) {
    top.problem(`${partialKey}: expected a number up to 1, found null`);
  }
  const outside = top.value(partialKey) === null ? 1 : top.positive(partialKey, partial);
  const share = fields.positive("partial_rotary_factor", outside);
  if (share > 1) top.problem(`${partialKey}: expected a number up to 1, found ${share}`);
  return share;
}

/** What each function of transformers' ROPE_INIT_FUNCTIONS reads. */
function scalingOf(
  type: RopeType,
  top: Fields,
  fields: Fields,
  { headDim, maxPositionEmbeddings, alpha }: RopeClass,
  { dimensions, share, isOnly, original: own }: {
    dimensions: number;
    share: number;
    isOnly: boolean;
    original?: number;
  },
): RopeScaling {
  /** A number above 0, or nothing. */
  const optional = (key: string) => (fields.value(key) ?? null) === null ? undefined : fields.positive(key);
  /** Python's `or`: 0 is nothing too. */
  const orNone = (key: string) => fields.value(key) === 0 ? undefined : optional(key);
  /** Outside the set before inside. */
  const original = () => {
    if (own !== undefined) return own;
    const key = "original_max_position_embeddings";
    const inside = fields.count(key, MOST, maxPositionEmbeddings);
    return isOnly ? top.count(key, MOST, inside) : inside;
  };
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor: fields.positive("factor") };
    case "dynamic": {
      if (dimensions === 2) top.problem(`head_dim ${headDim}: "dynamic" needs more than 2 rotated numbers`);
      const known = alpha ? orNone("alpha") : undefined;
      const factor = fields.positive("factor");
      return { type, factor, maxPositionEmbeddings, ...(known !== undefined && { alpha: known }) };
    }
    case "yarn": {
      const length = original();
      const factor = fields.value("factor") === null
        ? maxPositionEmbeddings / length
        : fields.positive("factor");
      const [scale, allDimensions] = [orNone("mscale"), orNone("mscale_all_dim")];
      const growth = (mscale = 1) => factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
      const usual = scale && allDimensions ? growth(scale) / growth(allDimensions) : growth();
      return {
        type,
        factor,
        attentionFactor: optional("attention_factor") ?? usual,
        betaFast: orNone("beta_fast") ?? 32,
        betaSlow: orNone("beta_slow") ?? 1,
        originalMaxPositionEmbeddings: length,
        // transformers looks for it beside the sets of layer types, where its own check refuses it.
        truncate: isOnly && fields.value("truncate") !== undefined ? fields.boolean("truncate") : true,
      };
    }
    case "llama3": {
      const factor = fields.positive("factor");
      const lowFreqFactor = fields.positive("low_freq_factor");
      const highFreqFactor = fields.positive("high_freq_factor");
      if (highFreqFactor <= lowFreqFactor) {
        fields.problem(
          `high_freq_factor must be greater than low_freq_factor ${lowFreqFactor}, found ${highFreqFactor}`,
        );
      }
      return { type, factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: original() };
    }
    case "longrope": {
      const length = original();
      const factor = optional("factor") ?? maxPositionEmbeddings / length;
      const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(length));
      return {
        type,
        attentionFactor: optional("attention_factor") ?? usual,
        shortFactor: fields.positives("short_factor", dimensions / 2),
        longFactor: fields.positives("long_factor", dimensions / 2),
        originalMaxPositionEmbeddings: length,
      };
    }
    case "proportional":
      return { type, factor: fields.positive("factor", 1), angles: Math.floor(share * headDim / 2) };
  }
}

const isFilled = (value: unknown) =>
  value !== undefined && value !== null && !(isObject(value) && Object.keys(value).length === 0);
