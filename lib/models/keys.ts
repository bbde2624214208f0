/**
 * Groups of keys of config.json that many architectures share. Each is called with the defaults of one class of
 * transformers, by the keys' own names, and reads what that class reads.
 */
import { type Activation, ACTIVATIONS } from "../../kernels/activation.ts";
import type { RopeSpec } from "../graph/rope_table.ts";
import { show } from "../text/json.ts";
import type { ModelConfig } from "./architecture.ts";
import type { Fields } from "./fields.ts";
import { parseRope, type RopeClass } from "./rope.ts";

export type LayerType = "full_attention" | "sliding_attention";

/**
 * What every decoder has. The bounds are far above every published model, and keep a hostile file from endless
 * allocations.
 * @param names of keys that the class calls otherwise; `hasPadding` is false where its embedding knows no padding
 * token.
 */
export function decoderKeys(
  fields: Fields,
  usual: {
    vocab_size: number;
    hidden_size: number;
    num_hidden_layers: number;
    max_position_embeddings: number;
    tie_word_embeddings?: boolean;
    pad_token_id?: number;
  },
  { hidden_size = "hidden_size", num_hidden_layers = "num_hidden_layers", hasPadding = true } = {},
): ModelConfig {
  const vocabSize = fields.count("vocab_size", 2 ** 24, usual.vocab_size);
  const padTokenId = fields.row("pad_token_id", hasPadding ? vocabSize : 2 ** 31, usual.pad_token_id);
  return {
    modelType: String(fields.value("model_type")),
    vocabSize,
    hiddenSize: fields.count(hidden_size, 2 ** 20, usual.hidden_size),
    numHiddenLayers: fields.count(num_hidden_layers, 1024, usual.num_hidden_layers),
    maxPositionEmbeddings: fields.count("max_position_embeddings", 2 ** 31, usual.max_position_embeddings),
    tieWordEmbeddings: fields.boolean("tie_word_embeddings", usual.tie_word_embeddings),
    ...(hasPadding && padTokenId !== undefined && { padTokenId }),
    dtype: fields.dtype("dtype") ?? fields.dtype("torch_dtype"),
  };
}

export interface Heads {
  numAttentionHeads: number;
  /** Heads of keys and values; a divisor of `numAttentionHeads`. */
  numKeyValueHeads: number;
  /** Even. */
  headDim: number;
}

/** What those have that follow GPT more closely: a plain MLP and LayerNorm, yet rotary position embedding. */
export interface PlainConfig extends ModelConfig, Heads {
  intermediateSize: number;
  hiddenAct: Activation;
  rope: RopeSpec;
}

/** What Llama and most after it have: a gated MLP, RMSNorm and rotary position embedding. */
export interface GatedConfig extends ModelConfig, Heads {
  intermediateSize: number;
  hiddenAct: Activation;
  rmsNormEps: number;
  rope: RopeSpec;
}

/**
 * Heads of attention and their size.
 *
 * @param usual the class's defaults: without them there are as many key heads as query heads, and `hidden_size` is
 * divided among these. A key is "required" where the class cannot do without.
 * @param nulls the keys for which the class has a rule for null: the same as without a default. It refuses others.
 */
export function headKeys(
  fields: Fields,
  { hiddenSize }: ModelConfig,
  usual: {
    num_attention_heads: number;
    num_key_value_heads?: number | "required";
    head_dim?: number | "required";
  },
  nulls: readonly ("num_key_value_heads" | "head_dim")[] = [],
): Heads {
  const numAttentionHeads = fields.count("num_attention_heads", 2 ** 16, usual.num_attention_heads);
  const optional = (key: (typeof nulls)[number], divided: number) => {
    const isNull = nulls.includes(key) && fields.value(key) === null;
    const absent = usual[key] ?? divided;
    return isNull ? divided : fields.count(key, 2 ** 16, absent === "required" ? undefined : absent);
  };
  const numKeyValueHeads = optional("num_key_value_heads", numAttentionHeads);
  if (usual.head_dim === undefined && (fields.value("head_dim") ?? null) === null) {
    multipleOf(fields, { hiddenSize, numAttentionHeads });
  }
  const headDim = optional("head_dim", Math.floor(hiddenSize / numAttentionHeads));
  return checked(fields, { numAttentionHeads, numKeyValueHeads, headDim });
}

/**
 * Heads of classes that divide `hidden_size` among them whatever `head_dim` says, which their rotary embedding alone
 * looks at: it is refused where it says something else.
 * @param keyValueHeads how many there are of keys; by default as many as of queries.
 */
export function dividedHeads(
  fields: Fields,
  { hiddenSize }: ModelConfig,
  usual: { num_attention_heads: number },
  keyValueHeads: (heads: number) => number = (heads) => heads,
): Heads {
  const numAttentionHeads = fields.count("num_attention_heads", 2 ** 16, usual.num_attention_heads);
  const numKeyValueHeads = keyValueHeads(numAttentionHeads);
  multipleOf(fields, { hiddenSize, numAttentionHeads });
  onlyDividedHeads(fields, hiddenSize / numAttentionHeads);
  const headDim = Math.floor(hiddenSize / numAttentionHeads);
  return checked(fields, { numAttentionHeads, numKeyValueHeads, headDim });
}

/** `head_dim` of classes that look at it here and divide there. */
export function onlyDividedHeads(fields: Fields, divided: number): void {
  const headDim = fields.value("head_dim") ?? null;
  if (headDim === null || headDim === divided) return;
  fields.problem(
    `head_dim: ${show(headDim)} is not supported; supported: hidden_size / num_attention_heads, or none`,
  );
}

function checked(fields: Fields, heads: Heads): Heads {
  const { numAttentionHeads, numKeyValueHeads, headDim } = heads;
  if (numAttentionHeads % numKeyValueHeads > 0) {
    fields.problem(
      `num_attention_heads ${numAttentionHeads} is no multiple of num_key_value_heads ${numKeyValueHeads}`,
    );
  }
  if (headDim % 2 > 0) fields.problem(`head_dim must be even, found ${headDim}`);
  return heads;
}

/** Some classes insist on it even where `head_dim` is given. */
export function multipleOf(
  fields: Fields,
  { hiddenSize, numAttentionHeads }: { hiddenSize: number; numAttentionHeads: number },
): void {
  if (hiddenSize % numAttentionHeads === 0 || Number.isNaN(hiddenSize % numAttentionHeads)) return;
  const problem = `hidden_size ${hiddenSize} is no multiple of num_attention_heads ${numAttentionHeads}`;
  if (!fields.problems.includes(problem)) fields.problem(problem);
}

export const intermediateSize = (fields: Fields, usual: number): number =>
  fields.count("intermediate_size", 2 ** 22, usual);

/** An activation by transformers' name, one of those that there are kernels for. */
export const activation = (fields: Fields, key: string, usual: Activation): Activation =>
  fields.oneOf(key, ACTIVATIONS, usual) ?? usual;

/**
 * The keys of `GatedConfig` that are not of heads, as most classes call them.
 * @param rope what the class's rotation has of its own.
 */
export const gatedKeys = (
  fields: Fields,
  config: ModelConfig & Heads,
  usual: { intermediate_size: number; rms_norm_eps: number },
  rope: Partial<RopeClass> = {},
): Omit<GatedConfig, keyof ModelConfig | keyof Heads> => ({
  intermediateSize: intermediateSize(fields, usual.intermediate_size),
  hiddenAct: activation(fields, "hidden_act", "silu"),
  rmsNormEps: fields.positive("rms_norm_eps", usual.rms_norm_eps),
  rope: parseRope(fields, { ...config, ...rope }),
});

/**
 * Keys of what transformers drops out while it trains: nothing is here, as in TRL, whose `disable_dropout` is true by
 * default.
 *
 * @param usual what an absent key says in a class that has a default of its own, and takes no null; of others both
 * are 0.
 */
export function noDropout(fields: Fields, keys: readonly string[], usual?: number): void {
  for (const key of keys) {
    const value = fields.value(key);
    const dropout = usual === undefined ? value ?? 0 : value === undefined ? usual : value;
    if (typeof dropout !== "number") fields.problem(`${key}: expected a number, found ${show(dropout)}`);
    else if (dropout !== 0) {
      fields.warn(`${key}: ${dropout}: nothing is dropped out, as with TRL's disable_dropout`);
    }
  }
}

/** `use_bidirectional_attention` of Gemma's classes, which lets tokens see later ones. */
export function onlyCausal(fields: Fields): void {
  if (fields.value("use_bidirectional_attention") === null) return;
  if (fields.boolean("use_bidirectional_attention")) {
    fields.problem("use_bidirectional_attention: true lets tokens see later ones, which is not supported");
  }
}

/** How far back a token sees, in tokens, itself included. null, unlike an absent key, says that it sees all. */
export const slidingWindow = (fields: Fields, usual: number | undefined): number | undefined =>
  fields.orNull("sliding_window", usual, () => fields.count("sliding_window", 2 ** 31, 1));

/**
 * Which layers have the window.
 *
 * @param usual what the class takes where `layer_types` is absent or null.
 * @param unset why there may be no window where `sliding_window` is there.
 */
export function layerTypes(
  fields: Fields,
  { numHiddenLayers }: ModelConfig,
  window: number | undefined,
  usual: (layer: number) => LayerType,
  unset = "",
): LayerType[] {
  const types = fields.value("layer_types");
  if ((types ?? null) === null) return Array.from({ length: numHiddenLayers || 0 }, (_, l) => usual(l));
  const known = ["full_attention", "sliding_attention"];
  if (
    !Array.isArray(types) || types.length !== numHiddenLayers || !types.every((type) => known.includes(type))
  ) {
    fields.problem(
      `layer_types: expected "full_attention" or "sliding_attention" for each of ${numHiddenLayers} layers, found ${
        show(types)
      }`,
    );
  } else if (window === undefined && types.includes("sliding_attention")) {
    fields.problem(`layer_types: has "sliding_attention", and there is no sliding_window${unset}`);
  }
  return types as LayerType[];
}

/** Where `layer_types` names none: each `sliding_window_pattern`-th layer sees all. */
export function windowPattern(fields: Fields, usual: number): (layer: number) => LayerType {
  const isNamed = (fields.value("layer_types") ?? null) !== null;
  const interval = isNamed ? usual : fields.count("sliding_window_pattern", 2 ** 31, usual);
  return (l) => (l + 1) % interval > 0 ? "sliding_attention" : "full_attention";
}

/** Which tokens the layers' attention sees. */
export interface Windows {
  /** A token sees this many tokens back, itself included, in the layers that have a window; absent: all of them. */
  slidingWindow?: number;
  layerTypes: LayerType[];
}

/** The window of each layer. */
export const windowsOf = ({ layerTypes, slidingWindow }: Windows): (number | undefined)[] =>
  layerTypes.map((type) => type === "sliding_attention" ? slidingWindow : undefined);

/** The windows of Qwen's classes: only where `use_sliding_window` is true, and from `max_window_layers` on. */
export function qwenWindow(fields: Fields, base: ModelConfig): Windows {
  const window = fields.boolean("use_sliding_window") ? slidingWindow(fields, 4096) : undefined;
  const isNamed = (fields.value("layer_types") ?? null) !== null;
  const first = isNamed ? 0 : fields.whole("max_window_layers", 2 ** 31, 28);
  const types = layerTypes(
    fields,
    base,
    window,
    (l) => window !== undefined && l >= first ? "sliding_attention" : "full_attention",
    " (it counts where use_sliding_window is true)",
  );
  return { ...(window !== undefined && { slidingWindow: window }), layerTypes: types };
}

/** `layer_types` of classes that only check it. */
export function onlyFullAttention(fields: Fields, { numHiddenLayers }: ModelConfig): void {
  const types = fields.value("layer_types") ?? null;
  const isPlain = Array.isArray(types) && types.length === numHiddenLayers &&
    types.every((type) => type === "full_attention");
  if (types === null || isPlain) return;
  fields.problem(
    `layer_types: ${show(types)} is not supported; supported: "full_attention" for each layer, or none`,
  );
}

/** `layer_types` of classes whose place another class takes where it is there. */
export function noLayerTypes(fields: Fields): void {
  const types = fields.value("layer_types");
  if (types !== undefined) {
    fields.problem(`layer_types: ${show(types)} is not supported yet; supported: none`);
  }
}
