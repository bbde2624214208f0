import { join } from "node:path";
import { UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { readTextFile } from "../text_file.ts";
import { type Dtype, Fields } from "./fields.ts";
import { parseRope } from "./rope.ts";
import type { RopeSpec } from "./rope_table.ts";

/** The shape of a decoder, from a model folder's config.json; counts unless said. */
export interface ModelConfig {
  modelType: ModelType;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  /** Heads of keys and values; a divisor of `numAttentionHeads`. */
  numKeyValueHeads: number;
  /** Even; `hiddenSize / numAttentionHeads` unless the file says otherwise. */
  headDim: number;
  rmsNormEps: number;
  /** Whether the LM head is the embedding matrix. */
  tieWordEmbeddings: boolean;
  rope: RopeSpec;
  maxPositionEmbeddings: number;
  /** A token sees this many tokens back, itself included, in the layers that have a window; absent: all of them. */
  slidingWindow?: number;
  /** Which layers have it; absent: every one. */
  layerTypes?: LayerType[];
  /**
   * The token whose embedding is not trained by looking it up: PyTorch's `padding_idx`, counted from the end where config.json
   * has a negative number. A tied head still trains it.
   */
  padTokenId?: number;
  attentionBias: boolean;
  mlpBias: boolean;
  /** The dtype that the weights were saved in, where the file says it. */
  dtype?: Dtype;
}

/** Architectures, by transformers' `model_type`; each has a file in `lib/models`. */
export type ModelType = "llama" | "mistral" | "qwen2" | "qwen3";

export type LayerType = "full_attention" | "sliding_attention";

const QWEN: Defaults = {
  vocabSize: 151936,
  intermediateSize: 22016,
  maxPositionEmbeddings: 32768,
  numKeyValueHeads: 32,
  slidingWindow: 4096,
};

/** What transformers' configuration classes take where a key is absent, by `model_type`. */
const DEFAULTS: Record<ModelType, Defaults> = {
  llama: { vocabSize: 32000, intermediateSize: 11008, maxPositionEmbeddings: 2048 },
  mistral: {
    vocabSize: 32000,
    intermediateSize: 14336,
    maxPositionEmbeddings: 4096 * 32,
    numKeyValueHeads: 8,
    slidingWindow: 4096,
  },
  qwen2: QWEN,
  qwen3: { ...QWEN, headDim: 128 },
};

interface Defaults {
  vocabSize: number;
  intermediateSize: number;
  maxPositionEmbeddings: number;
  /** Absent: what the hidden size gives each head. */
  headDim?: number;
  /** Absent: as many as attention heads. */
  numKeyValueHeads?: number;
  /** Absent: the architecture has none. */
  slidingWindow?: number;
}

const MODEL_TYPES = Object.keys(DEFAULTS) as ModelType[];
/** Two names of one function. */
const ACTIVATIONS = ["silu", "swish"];
/** The class that transformers takes for a `model_type`, whatever `architectures` says. */
const classOf = (modelType: string) => `${modelType[0].toUpperCase()}${modelType.slice(1)}ForCausalLM`;

/** Keys that change in transformers what is computed, or what is read: null leaves it as it is. */
const NOT_SUPPORTED: Record<string, string> = {
  quantization_config: "quantised weights are not supported yet",
  compression_config: "quantised weights are not supported yet",
  per_layer_config: "layers that differ from each other are not supported",
  transformers_weights: "weights under another name are not read: call the file model.safetensors",
  configuration_files: "only config.json is read: put what it should say there",
  fusion_config: "fused modules are not supported: remove it",
};

/**
 * Reads config.json of a model folder.
 *
 * @param warn told of what is read otherwise than it may be meant.
 * @throws UserError where it is missing or no JSON, and as `parseModelConfig`.
 */
export async function readModelConfig(
  folder: string,
  warn?: (message: string) => void,
): Promise<ModelConfig> {
  const path = join(folder, "config.json");
  const text = await readTextFile(path).catch((error) => {
    throw new UserError(`${path}: cannot be read: expected the configuration of a model: ${error.message}`);
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  return parseModelConfig(json, path, warn);
}

/**
 * The model that a config.json describes, as transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`) or
 * 5 (`rope_parameters`, `dtype`) writes it. Absent keys take the defaults of transformers' class; what that does not look at
 * is not looked at here either, and what would change its numbers is followed or refused.
 *
 * @param where the file's name, for messages.
 * @param warn told of what is read otherwise than it may be meant.
 * @throws UserError that lists every problem of the file.
 */
export function parseModelConfig(
  json: unknown,
  where: string,
  warn: (message: string) => void = () => {},
): ModelConfig {
  if (!isObject(json)) throw new UserError(`${where}: expected a JSON object, found ${show(json)}`);
  const fields = new Fields(json);
  const modelType = fields.oneOf("model_type", MODEL_TYPES);
  // The keys of another architecture follow other rules, so its other "problems" would mislead.
  if (modelType === undefined) throw fields.failure(where);
  const defaults = DEFAULTS[modelType];

  fields.oneOf("hidden_act", ACTIVATIONS, "silu");
  for (const [key, why] of Object.entries(NOT_SUPPORTED)) {
    if ((json[key] ?? null) !== null) fields.problem(`${key}: ${why}`);
  }
  // Python's rule: whatever is there and not true lets tokens see later ones.
  if (json.is_causal !== undefined && json.is_causal !== true) {
    fields.problem(`is_causal: ${show(json.is_causal)} lets tokens see later ones, which is not supported`);
  }
  const dropout = json.attention_dropout ?? 0;
  if (dropout !== 0) {
    fields.problem(
      `attention_dropout: ${
        show(dropout)
      } is not supported: transformers drops out while it trains; supported: 0`,
    );
  }
  // The bounds are far above every published model, and keep a hostile file from asking for endless
  // allocations.
  const hiddenSize = fields.count("hidden_size", 2 ** 20, 4096);
  const numAttentionHeads = fields.count("num_attention_heads", 2 ** 16, 32);
  // As for head_dim, transformers' classes have a rule for null; Mistral's does not accept it.
  const hasRule = modelType !== "mistral" && json.num_key_value_heads === null;
  const numKeyValueHeads = fields.count(
    "num_key_value_heads",
    2 ** 16,
    hasRule ? numAttentionHeads : defaults.numKeyValueHeads ?? numAttentionHeads,
    hasRule,
  );
  // Llama's class insists on it; for Mistral's it is where the size of a head comes from.
  const isDivided = modelType === "llama" ||
    (defaults.headDim === undefined && (json.head_dim ?? null) === null);
  if (hiddenSize % numAttentionHeads > 0 && isDivided) {
    fields.problem(`hidden_size ${hiddenSize} is no multiple of num_attention_heads ${numAttentionHeads}`);
  }
  if (numAttentionHeads % numKeyValueHeads > 0) {
    fields.problem(
      `num_attention_heads ${numAttentionHeads} is no multiple of num_key_value_heads ${numKeyValueHeads}`,
    );
  }
  const headDim = fields.count(
    "head_dim",
    2 ** 16,
    defaults.headDim ?? Math.floor(hiddenSize / numAttentionHeads),
    modelType === "llama" || modelType === "mistral",
  );
  if (headDim % 2 > 0) fields.problem(`head_dim must be even, found ${headDim}`);
  const maxPositionEmbeddings = fields.count(
    "max_position_embeddings",
    2 ** 31,
    defaults.maxPositionEmbeddings,
  );
  const vocabSize = fields.count("vocab_size", 2 ** 24, defaults.vocabSize);
  const config: ModelConfig = {
    modelType,
    vocabSize,
    hiddenSize,
    intermediateSize: fields.count("intermediate_size", 2 ** 22, defaults.intermediateSize),
    numHiddenLayers: fields.count("num_hidden_layers", 1024, 32),
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
    tieWordEmbeddings: fields.boolean("tie_word_embeddings"),
    rope: parseRope(fields, { headDim, maxPositionEmbeddings }),
    maxPositionEmbeddings,
    ...parseWindow(fields, json, modelType),
    ...((json.pad_token_id ?? null) !== null && { padTokenId: fields.row("pad_token_id", vocabSize) }),
    // The other classes do not look at these keys.
    attentionBias: (modelType === "llama" || modelType === "qwen3") && fields.boolean("attention_bias"),
    mlpBias: modelType === "llama" && fields.boolean("mlp_bias"),
    dtype: fields.dtype("dtype") ?? fields.dtype("torch_dtype"),
  };
  if (modelType === "qwen2" || modelType === "qwen3") {
    Object.assign(config, parseLayerTypes(fields, json, config));
  } else checkLayerTypes(fields, json, config);
  if (fields.problems.length > 0) throw fields.failure(where);

  if (json.pad_token_id !== undefined && Number(json.pad_token_id) < 0) {
    warn(
      `${where}: pad_token_id: ${json.pad_token_id} counts from the end, as PyTorch does: the embedding of token ` +
        `${config.padTokenId} is not trained where it is looked up`,
    );
  }
  const { architectures } = json;
  if (
    Array.isArray(architectures) && architectures.length > 0 && !architectures.includes(classOf(modelType))
  ) {
    warn(
      `${where}: architectures: ${show(architectures)}; the model is trained as ${
        classOf(modelType)
      }, which ` +
        `transformers takes for model_type ${modelType}`,
    );
  }
  if ((json.auto_map ?? null) !== null) {
    warn(
      `${where}: auto_map names code of the model's own, which is not run: it is trained as ${
        classOf(modelType)
      }, as ` +
        "in transformers without trust_remote_code",
    );
  }
  return config;
}

/** The window, where the architecture has one and the file does not switch it off. */
function parseWindow(
  fields: Fields,
  json: Record<string, unknown>,
  modelType: ModelType,
): Pick<ModelConfig, "slidingWindow"> {
  const { slidingWindow: usual } = DEFAULTS[modelType];
  if (usual === undefined || (modelType !== "mistral" && !fields.boolean("use_sliding_window"))) return {};
  // null, unlike an absent key, says that there is none: Mistral 7B v0.2 and later.
  return json.sliding_window === null
    ? {}
    : { slidingWindow: fields.count("sliding_window", 2 ** 31, usual) };
}

/** Which layers have the window: `layer_types`, or all from `max_window_layers` on. */
function parseLayerTypes(
  fields: Fields,
  json: Record<string, unknown>,
  { numHiddenLayers, slidingWindow }: ModelConfig,
): Pick<ModelConfig, "layerTypes"> {
  const { layer_types: types } = json;
  if ((types ?? null) === null) {
    const first = fields.whole("max_window_layers", 2 ** 31, 28);
    const layerTypes = Array.from(
      { length: numHiddenLayers },
      (_, l): LayerType => slidingWindow !== undefined && l >= first ? "sliding_attention" : "full_attention",
    );
    return { layerTypes };
  }
  const known = ["full_attention", "sliding_attention"];
  if (
    !Array.isArray(types) || types.length !== numHiddenLayers || !types.every((type) => known.includes(type))
  ) {
    fields.problem(
      `layer_types: expected "full_attention" or "sliding_attention" for each of ${numHiddenLayers} layers, found ${
        show(types)
      }`,
    );
  } else if (slidingWindow === undefined && types.includes("sliding_attention")) {
    fields.problem(
      'layer_types: has "sliding_attention", and there is no sliding_window (it counts where use_sliding_window is true)',
    );
  }
  return { layerTypes: types as LayerType[] };
}

/** Llama's class only checks them; for Mistral's, transformers takes another class where they are there (Ministral's). */
function checkLayerTypes(
  fields: Fields,
  { layer_types: types }: Record<string, unknown>,
  { modelType, numHiddenLayers }: ModelConfig,
): void {
  if (types === undefined || (types === null && modelType === "llama")) return;
  const isPlain = Array.isArray(types) && types.length === numHiddenLayers &&
    types.every((type) => type === "full_attention");
  if (modelType === "llama" && isPlain) return;
  fields.problem(
    `layer_types: ${show(types)} is not supported yet; supported: ${
      modelType === "llama" ? '"full_attention" for each layer, or none' : "none"
    }`,
  );
}
