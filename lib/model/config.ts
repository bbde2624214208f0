import { join } from "node:path";
import { UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { readTextFile } from "../text_file.ts";

/** The shape of a decoder, from a model folder's config.json; counts unless said. */
export interface ModelConfig {
  modelType: string;
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
  rope: RopeConfig;
  maxPositionEmbeddings: number;
  /** A token sees this many tokens back, itself included; absent: all of them. */
  slidingWindow?: number;
  /** The token whose embedding is not trained by looking it up: PyTorch's `padding_idx`. A tied head still trains it. */
  padTokenId?: number;
  attentionBias: boolean;
  mlpBias: boolean;
  /** The dtype that the weights were saved in, by PyTorch's name ("bfloat16"), where the file says it. */
  dtype?: string;
}

/** Rotary position embedding: see rope.ts for the rules. Lengths in tokens. */
export type RopeConfig =
  | { type: "default"; theta: number }
  | {
    type: "llama3";
    theta: number;
    factor: number;
    lowFreqFactor: number;
    highFreqFactor: number;
    originalMaxPositionEmbeddings: number;
  };

/** What transformers' configuration classes take where a key is absent, by `model_type`. */
const DEFAULTS: Record<string, Defaults> = {
  llama: { intermediateSize: 11008, maxPositionEmbeddings: 2048 },
  mistral: {
    intermediateSize: 14336,
    maxPositionEmbeddings: 4096 * 32,
    numKeyValueHeads: 8,
    slidingWindow: 4096,
  },
};

interface Defaults {
  intermediateSize: number;
  maxPositionEmbeddings: number;
  /** Absent: as many as attention heads. */
  numKeyValueHeads?: number;
  /** Absent: the architecture has none. */
  slidingWindow?: number;
}

const MODEL_TYPES = Object.keys(DEFAULTS);
const ROPE_TYPES = ["default", "llama3"];

/**
 * Reads config.json of a model folder.
 *
 * @throws UserError where it is missing or no JSON, and as `parseModelConfig`.
 */
export async function readModelConfig(folder: string): Promise<ModelConfig> {
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
  return parseModelConfig(json, path);
}

/**
 * The model that a config.json describes, as transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`) or
 * 5 (`rope_parameters`, `dtype`) writes it. Absent keys take the defaults of transformers' class.
 *
 * @param where the file's name, for messages.
 * @throws UserError that lists every problem of the file.
 */
export function parseModelConfig(json: unknown, where: string): ModelConfig {
  if (!isObject(json)) throw new UserError(`${where}: expected a JSON object, found ${show(json)}`);
  const fields = new Fields(json);
  const modelType = fields.oneOf("model_type", MODEL_TYPES);
  // The keys of another architecture follow other rules, so its other "problems" would mislead.
  if (modelType === undefined) throw fields.failure(where);
  const defaults = DEFAULTS[modelType];

  fields.oneOf("hidden_act", ["silu"], "silu");
  if (json.quantization_config !== undefined && json.quantization_config !== null) {
    fields.problem("quantization_config: quantised weights are not supported yet");
  }
  // The bounds are far above every published model, and keep a hostile file from asking for endless
  // allocations.
  const hiddenSize = fields.count("hidden_size", 2 ** 20, 4096);
  const numAttentionHeads = fields.count("num_attention_heads", 2 ** 16, 32);
  const numKeyValueHeads = fields.count(
    "num_key_value_heads",
    2 ** 16,
    defaults.numKeyValueHeads ?? numAttentionHeads,
  );
  if (hiddenSize % numAttentionHeads > 0 && (json.head_dim ?? null) === null) {
    fields.problem(`hidden_size ${hiddenSize} is no multiple of num_attention_heads ${numAttentionHeads}`);
  }
  if (numAttentionHeads % numKeyValueHeads > 0) {
    fields.problem(
      `num_attention_heads ${numAttentionHeads} is no multiple of num_key_value_heads ${numKeyValueHeads}`,
    );
  }
  const headDim = fields.count("head_dim", 2 ** 16, Math.floor(hiddenSize / numAttentionHeads));
  if (headDim % 2 > 0) fields.problem(`head_dim must be even, found ${headDim}`);
  const maxPositionEmbeddings = fields.count(
    "max_position_embeddings",
    2 ** 31,
    defaults.maxPositionEmbeddings,
  );
  const config: ModelConfig = {
    modelType,
    vocabSize: fields.count("vocab_size", 2 ** 24, 32000),
    hiddenSize,
    intermediateSize: fields.count("intermediate_size", 2 ** 22, defaults.intermediateSize),
    numHiddenLayers: fields.count("num_hidden_layers", 1024, 32),
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
    tieWordEmbeddings: fields.boolean("tie_word_embeddings"),
    rope: parseRope(fields, json, maxPositionEmbeddings),
    maxPositionEmbeddings,
    // null, unlike an absent key, says that there is none: Mistral 7B v0.2 and later.
    ...(defaults.slidingWindow !== undefined && json.sliding_window !== null && {
      slidingWindow: fields.count("sliding_window", 2 ** 31, defaults.slidingWindow),
    }),
    ...((json.pad_token_id ?? null) !== null && { padTokenId: fields.id("pad_token_id", 2 ** 24) }),
    attentionBias: fields.boolean("attention_bias"),
    mlpBias: fields.boolean("mlp_bias"),
    dtype: fields.string("dtype") ?? fields.string("torch_dtype"),
  };
  for (const key of ["attention_bias", "mlp_bias"]) {
    if (json[key] === true) fields.problem(`${key}: true is not supported yet; supported: false`);
  }
  if (fields.problems.length > 0) throw fields.failure(where);
  return config;
}

/**
 * Follows RotaryEmbeddingConfigMixin of transformers: where both generations of keys are there, which one
 * counts.
 */
function parseRope(top: Fields, json: Record<string, unknown>, maxPositionEmbeddings: number): RopeConfig {
  const isFilled = (value: unknown) => value !== undefined && value !== null && !isEmptyObject(value);
  const key = isFilled(json.rope_scaling) ? "rope_scaling" : "rope_parameters";
  const value = json[key] ?? {};
  const theta = top.positive("rope_theta", 10_000);
  if (!isObject(value)) {
    top.problem(`${key}: expected an object, found ${show(value)}`);
    return { type: "default", theta };
  }
  const fields = new Fields(value, `${key}.`, top.problems);
  const ropeTheta = fields.positive("rope_theta", theta);
  if (isFilled(value.full_attention) || isFilled(value.sliding_attention)) {
    top.problem(`${key}: a set for each layer type is not supported yet`);
  }
  const partial = value.partial_rotary_factor ?? json.partial_rotary_factor ?? 1;
  if (partial !== 1) {
    top.problem(`partial_rotary_factor: ${show(partial)} is not supported yet; supported: 1`);
  }
  const typeKey = value.rope_type === undefined ? "type" : "rope_type";
  if (fields.oneOf(typeKey, ROPE_TYPES, "default") !== "llama3") return { type: "default", theta: ropeTheta };

  const factor = fields.positive("factor");
  const lowFreqFactor = fields.positive("low_freq_factor");
  const highFreqFactor = fields.positive("high_freq_factor");
  if (highFreqFactor <= lowFreqFactor) {
    top.problem(
      `${key}.high_freq_factor must be greater than low_freq_factor ${lowFreqFactor}, ` +
        `found ${highFreqFactor}`,
    );
  }
  const inside = fields.count("original_max_position_embeddings", 2 ** 31, maxPositionEmbeddings);
  return {
    type: "llama3",
    theta: ropeTheta,
    factor,
    lowFreqFactor,
    highFreqFactor,
    originalMaxPositionEmbeddings: top.count("original_max_position_embeddings", 2 ** 31, inside),
  };
}

function isEmptyObject(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length === 0;
}

/**
 * Reads the keys of an object and gathers what is wrong with them. After a problem a reader returns a value
 * of the right type (NaN for a number), so that the other keys are still checked; null stands for an absent
 * key, as in transformers.
 */
class Fields {
  constructor(
    private readonly object: Record<string, unknown>,
    private readonly prefix = "",
    readonly problems: string[] = [],
  ) {}

  problem(text: string): void {
    this.problems.push(text);
  }

  failure(where: string): UserError {
    if (this.problems.length === 1) return new UserError(`${where}: ${this.problems[0]}`);
    return new UserError(
      `${where}: ${this.problems.length} problems:\n` + this.problems.map((line) => `  ${line}`).join("\n"),
    );
  }

  /** A whole number from 1 to `most`. */
  count(key: string, most: number, absent: number): number {
    return this.read(
      key,
      `a whole number from 1 to ${most}`,
      (value): value is number =>
        Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most,
      absent,
    ) ?? NaN;
  }

  /** A token id below `limit`. */
  id(key: string, limit: number): number {
    return this.read(
      key,
      `a token id below ${limit}`,
      (value): value is number =>
        Number.isInteger(value) && (value as number) >= 0 && (value as number) < limit,
    ) ?? NaN;
  }

  /** A number above 0, in float32 too: no kernel may see an infinity or a division by zero from here. */
  positive(key: string, absent?: number): number {
    return this.read(
      key,
      "a number above 0 within the range of float32",
      (value): value is number =>
        typeof value === "number" && Math.fround(value) > 0 && Math.fround(value) < Infinity,
      absent,
    ) ?? NaN;
  }

  boolean(key: string): boolean {
    return this.read(key, "true or false", (value) => typeof value === "boolean", false) ?? false;
  }

  string(key: string): string | undefined {
    const value = this.object[key];
    if (value === undefined || value === null) return undefined;
    return this.read(key, "a string", (value) => typeof value === "string");
  }

  /** One of the values that are supported, or undefined after a problem. */
  oneOf(key: string, supported: string[], absent?: string): string | undefined {
    const value = this.object[key] ?? absent;
    if (typeof value === "string" && !supported.includes(value)) {
      this.problem(
        `${this.prefix}${key}: ${show(value)} is not supported yet; supported: ${supported.join(", ")}`,
      );
      return undefined;
    }
    return this.read(key, supported.join(" or "), (value) => typeof value === "string", absent);
  }

  private read<T>(
    key: string,
    expected: string,
    isValid: (value: unknown) => value is T,
    absent?: T,
  ): T | undefined {
    const value = this.object[key] ?? undefined;
    if (value === undefined && absent !== undefined) return absent;
    if (isValid(value)) return value;
    this.problem(`${this.prefix}${key}: expected ${expected}, found ${show(this.object[key])}`);
    return undefined;
  }
}
