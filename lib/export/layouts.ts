/** How llama.cpp has the architectures: names of tensors, order of rows, keys of its metadata. */
import type { ModelConfig } from "../models/architecture.ts";
import type { ArceeConfig } from "../models/arcee.ts";
import type { CohereConfig } from "../models/cohere.ts";
import type { Cohere2Config } from "../models/cohere2.ts";
import type { Exaone4Config } from "../models/exaone4.ts";
import type { GemmaConfig } from "../models/gemma.ts";
import type { Gemma2Config } from "../models/gemma2.ts";
import type { Gemma3TextConfig } from "../models/gemma3_text.ts";
import type { GptNeoxConfig } from "../models/gpt_neox.ts";
import type { GraniteConfig } from "../models/granite.ts";
import type { GatedConfig, Heads, PlainConfig } from "../models/keys.ts";
import type { NemotronConfig } from "../models/nemotron.ts";
import type { Olmo3Config } from "../models/olmo3.ts";
import type { PhiConfig } from "../models/phi.ts";
import type { Phi3Config } from "../models/phi3.ts";
import type { Qwen2Config } from "../models/qwen2.ts";
import type { SmolLm3Config } from "../models/smollm3.ts";
import type { StablelmConfig } from "../models/stablelm.ts";
import type { Starcoder2Config } from "../models/starcoder2.ts";
import type { RopeSpec } from "../graph/rope_table.ts";
import type { GgufValue } from "./gguf.ts";

/** What every model has that can be exported. */
export type ExportedConfig = ModelConfig & Heads & Pick<PlainConfig, "intermediateSize" | "hiddenAct">;

/** The rows of a matrix that lie otherwise in llama.cpp. */
export type RowOrder =
  /** Of each head: a row of the first half, then one of the second, since there neighbours are rotated together. */
  | "halves interleaved"
  /** All queries, all keys, all values, in place of those of each head. */
  | "queries, keys, values";

export interface Layout<C extends ExportedConfig = ExportedConfig> {
  /** llama.cpp's name of the architecture. */
  readonly name: string;
  /** The parts of a layer: their names here by transformers' names. */
  readonly layer: Readonly<Record<string, string>>;
  /** Those of them that may have a bias; a norm's is its own. */
  readonly biases?: readonly string[];
  readonly order?: Readonly<Record<string, RowOrder>>;
  /** Norms are stored as what is multiplied with, in place of what is added to 1 first. */
  readonly onePlus?: boolean;
  /** The activation that its code has. */
  readonly activation: PlainConfig["hiddenAct"] | "gelu" | "any gelu";
  /** A file without a head is refused there, tied or not. */
  readonly needsHead?: boolean;
  /** The only way of rotating that its code has besides the usual one and those with a factor. */
  readonly rotations?: readonly RopeSpec["type"][];
  rope(config: C): RopeSpec;
  /** Keys, without the architecture's name in front. */
  keys(config: C): Record<string, GgufValue | undefined>;
  /** What its code cannot do, each with the key of config.json. */
  problems?(config: C): (string | false)[];
  /** The window of layers that its code runs without one. */
  lostWindow?(config: C): number | undefined;
}

const u32 = (value: number): GgufValue => ({ type: "uint32", value });
const f32 = (value: number): GgufValue => ({ type: "float32", value });
const bool = (value: boolean): GgufValue => ({ type: "bool", value });

const RMS = "attention.layer_norm_rms_epsilon";
const LAYER_NORM = "attention.layer_norm_epsilon";
const rms = ({ rmsNormEps }: Pick<GatedConfig, "rmsNormEps">) => ({ [RMS]: f32(rmsNormEps) });

const QKV = { "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v" };
const ATTENTION = { input_layernorm: "attn_norm", ...QKV, "self_attn.o_proj": "attn_output" };
const HEAD_NORMS = { "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm" };
const GATED = { "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down" };
const LLAMA = { ...ATTENTION, post_attention_layernorm: "ffn_norm", ...GATED };
/** Norms after attention and MLP, and before the MLP. */
const GEMMA2 = {
  ...ATTENTION,
  post_attention_layernorm: "post_attention_norm",
  pre_feedforward_layernorm: "ffn_norm",
  ...GATED,
  post_feedforward_layernorm: "post_ffw_norm",
};
const QKV_BIASES = Object.keys(QKV);
const ATTENTION_BIASES = [...QKV_BIASES, "self_attn.o_proj"];
const INTERLEAVED: Record<string, RowOrder> = {
  "self_attn.q_proj": "halves interleaved",
  "self_attn.k_proj": "halves interleaved",
};

const rope = ({ rope }: { rope: RopeSpec }) => rope;

const INTERLEAVED_LLAMA = {
  layer: LLAMA,
  biases: [...ATTENTION_BIASES, ...Object.keys(GATED)],
  order: INTERLEAVED,
  activation: "silu",
} as const;

const llama: Layout<GatedConfig> = {
  ...INTERLEAVED_LLAMA,
  name: "llama",
  rotations: ["linear", "yarn", "llama3"],
  rope,
  keys: rms,
};

const mistral: Layout<GatedConfig & { slidingWindow?: number }> = {
  ...llama,
  lostWindow: ({ slidingWindow }) => slidingWindow,
};

const windowOf = ({ slidingWindow, layerTypes }: Qwen2Config) =>
  layerTypes.includes("sliding_attention") ? slidingWindow : undefined;

const qwen2: Layout<Qwen2Config> = {
  name: "qwen2",
  layer: LLAMA,
  biases: QKV_BIASES,
  activation: "silu",
  rotations: ["linear", "yarn"],
  rope,
  keys: rms,
  lostWindow: windowOf,
};

const qwen3: Layout<Qwen2Config> = {
  ...qwen2,
  name: "qwen3",
  layer: { ...LLAMA, ...HEAD_NORMS },
  biases: [],
};

const GEMMA = { onePlus: true, activation: "gelu_pytorch_tanh" } as const;

const gemma: Layout<GemmaConfig> = {
  ...GEMMA,
  name: "gemma",
  layer: LLAMA,
  rope,
  keys: rms,
  problems: ({ tieWordEmbeddings }) => [!tieWordEmbeddings && "tie_word_embeddings: a head of its own"],
};

/** The scale of scores that the code of Gemma 2 and 3 has, by the size of the model. */
const gemmaScale = (c: Omit<Gemma2Config, "rope">, layersOf27B: number) =>
  c.queryPreAttnScalar !==
    (c.numHiddenLayers === layersOf27B ? c.hiddenSize / c.numAttentionHeads : c.headDim) &&
  `query_pre_attn_scalar: ${c.queryPreAttnScalar}`;

/** Whether windows are where the code has them: in all layers but each `period`th. */
const hasPattern = ({ layerTypes }: { layerTypes: readonly string[] }, period: number) =>
  layerTypes.every((type, l) => type === ((l + 1) % period > 0 ? "sliding_attention" : "full_attention"));

const gemma2: Layout<Gemma2Config> = {
  ...GEMMA,
  name: "gemma2",
  layer: GEMMA2,
  rope,
  keys: (c) => ({
    ...rms(c),
    "attn_logit_softcapping": f32(c.attnLogitSoftcapping ?? 0),
    "final_logit_softcapping": f32(c.finalLogitSoftcapping ?? 0),
    "attention.sliding_window": u32(c.slidingWindow!),
  }),
  problems: (c) => [
    !c.tieWordEmbeddings && "tie_word_embeddings: a head of its own",
    gemmaScale(c, 46),
    c.attnLogitSoftcapping === undefined && "attn_logit_softcapping: none",
    c.finalLogitSoftcapping === undefined && "final_logit_softcapping: none",
    !hasPattern(c, 2) && "layer_types: windows elsewhere than in every other layer, from the first on",
  ],
};

const gemma3: Layout<Gemma3TextConfig> = {
  ...GEMMA,
  name: "gemma3",
  layer: { ...GEMMA2, ...HEAD_NORMS },
  rotations: ["linear"],
  rope: ({ ropes }) => ropes.full_attention,
  keys: (c) => ({
    ...rms(c),
    "attention.sliding_window": u32(c.slidingWindow!),
    ...c.finalLogitSoftcapping !== undefined && { "final_logit_softcapping": f32(c.finalLogitSoftcapping) },
  }),
  problems: (c) => [
    gemmaScale(c, 62),
    !hasPattern(c, 6) && "layer_types: other than five windows to a full layer",
    (c.ropes.sliding_attention.type !== "default" || c.ropes.sliding_attention.theta !== 10_000) &&
    "rope_local_base_freq: other than 10000",
  ],
};

const phi3: Layout<Phi3Config> = {
  name: "phi3",
  layer: {
    input_layernorm: "attn_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    post_attention_layernorm: "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
  },
  activation: "silu",
  needsHead: true,
  rotations: ["longrope"],
  rope,
  keys: (c) => ({
    ...rms(c),
    "rope.scaling.original_context_length": u32(
      c.rope.type === "longrope" ? c.rope.originalMaxPositionEmbeddings : c.maxPositionEmbeddings,
    ),
    // 0 tells Phi-4 from those before it.
    "attention.sliding_window": u32(c.slidingWindow ?? 0),
  }),
  lostWindow: ({ slidingWindow }) => slidingWindow,
};

const gptNeox: Layout<GptNeoxConfig> = {
  name: "gptneox",
  layer: {
    input_layernorm: "attn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    post_attention_layernorm: "ffn_norm",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
  },
  biases: ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
  order: { "attention.query_key_value": "queries, keys, values" },
  activation: "any gelu",
  needsHead: true,
  rope,
  keys: (c) => ({
    [LAYER_NORM]: f32(c.layerNormEps),
    "use_parallel_residual": bool(c.useParallelResidual),
  }),
  problems: ({ attentionBias }) => [!attentionBias && "attention_bias: false"],
};

const phi: Layout<PhiConfig> = {
  name: "phi2",
  layer: {
    input_layernorm: "attn_norm",
    ...QKV,
    "self_attn.dense": "attn_output",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
  },
  biases: [...QKV_BIASES, "self_attn.dense", "mlp.fc1", "mlp.fc2"],
  activation: "any gelu",
  needsHead: true,
  rope,
  keys: ({ layerNormEps }) => ({ [LAYER_NORM]: f32(layerNormEps) }),
  problems: ({ qkLayernorm }) => [qkLayernorm && "qk_layernorm: true"],
};

const starcoder2: Layout<Starcoder2Config> = {
  name: "starcoder2",
  layer: {
    ...ATTENTION,
    post_attention_layernorm: "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
  },
  biases: [...ATTENTION_BIASES, "mlp.c_fc", "mlp.c_proj"],
  activation: "any gelu",
  rope,
  keys: ({ normEpsilon }) => ({ [LAYER_NORM]: f32(normEpsilon) }),
  problems: ({ useBias }) => [!useBias && "use_bias: false"],
  lostWindow: ({ slidingWindow }) => slidingWindow,
};

const stablelm: Layout<StablelmConfig> = {
  name: "stablelm",
  layer: LLAMA,
  biases: QKV_BIASES,
  activation: "silu",
  needsHead: true,
  rope,
  keys: (c) => ({
    [LAYER_NORM]: f32(c.layerNormEps),
    "use_parallel_residual": bool(c.useParallelResidual),
  }),
  problems: ({ qkLayernorm }) => [qkLayernorm && "qk_layernorm: true"],
};

const olmo2: Layout<GatedConfig> = {
  name: "olmo2",
  layer: {
    ...QKV,
    ...HEAD_NORMS,
    "self_attn.o_proj": "attn_output",
    post_attention_layernorm: "post_attention_norm",
    ...GATED,
    post_feedforward_layernorm: "post_ffw_norm",
  },
  activation: "silu",
  needsHead: true,
  rope,
  keys: rms,
};

const olmo3: Layout<Olmo3Config> = {
  ...olmo2 as Pick<typeof olmo2, "name" | "layer" | "activation" | "needsHead">,
  rotations: ["yarn"],
  rope: ({ ropes }) => ropes.full_attention,
  keys: (c) => ({
    ...rms(c),
    "attention.sliding_window": u32(c.slidingWindow!),
    "attention.sliding_window_pattern": {
      type: "bool[]",
      value: c.layerTypes.map((type) => type === "sliding_attention"),
    },
  }),
  problems: ({ ropes: { sliding_attention: window, full_attention: full } }) => [
    (window.type !== "default" || window.theta !== full.theta) &&
    "rope_parameters: a rotation of its own for layers with a window",
  ],
};

const exaone4: Layout<Exaone4Config> = {
  name: "exaone4",
  layer: olmo2.layer,
  activation: "silu",
  rotations: ["llama3"],
  rope,
  keys: (c) => ({
    ...rms(c),
    ...c.slidingWindow !== undefined && { "attention.sliding_window": u32(c.slidingWindow) },
  }),
  problems: (c) => [
    // Which of both models it is, is told by the count of layers.
    (c.slidingWindow !== undefined) !== (c.numHiddenLayers === 64) &&
    `sliding_window: ${c.slidingWindow ?? "none"} with ${c.numHiddenLayers} layers`,
    c.slidingWindow !== undefined && !hasPattern(c, 4) &&
    "layer_types: other than three windows to a full layer",
  ],
};

const smollm3: Layout<SmolLm3Config> = {
  ...INTERLEAVED_LLAMA,
  name: "smollm3",
  rope,
  keys: rms,
  problems: ({ noRopeLayers, numHiddenLayers }) => [
    noRopeLayers.slice(0, numHiddenLayers).some((rotates, l) => (rotates !== 0) !== ((l + 1) % 4 > 0)) &&
    "no_rope_layers: others than every fourth layer",
  ],
  lostWindow: windowOf,
};

const granite: Layout<GraniteConfig> = {
  ...INTERLEAVED_LLAMA,
  name: "granite",
  rope,
  keys: (c) => ({
    ...rms(c),
    "attention.scale": f32(c.attentionMultiplier),
    "embedding_scale": f32(c.embeddingMultiplier),
    "residual_scale": f32(c.residualMultiplier),
    "logit_scale": f32(c.logitsScaling),
  }),
};

const cohere: Layout<CohereConfig> = {
  name: "command-r",
  layer: { ...ATTENTION, ...HEAD_NORMS, ...GATED },
  activation: "silu",
  rope,
  keys: (c) => ({ [LAYER_NORM]: f32(c.layerNormEps), "logit_scale": f32(c.logitScale) }),
  problems: (c) => [
    !c.tieWordEmbeddings && "tie_word_embeddings: a head of its own",
    // Which of Cohere's models have these norms is told by the count of layers.
    c.useQkNorm !== c.numHiddenLayers >= 64 && `use_qk_norm: ${c.useQkNorm} with ${c.numHiddenLayers} layers`,
  ],
};

const cohere2: Layout<Cohere2Config> = {
  name: "cohere2",
  layer: { ...ATTENTION, ...GATED },
  activation: "silu",
  rope,
  keys: (c) => ({
    [LAYER_NORM]: f32(c.layerNormEps),
    "logit_scale": f32(c.logitScale),
    "attention.sliding_window": u32(c.slidingWindow!),
  }),
  problems: (c) => [
    !c.tieWordEmbeddings && "tie_word_embeddings: a head of its own",
    !hasPattern(c, 4) && "layer_types: other than three windows to a full layer",
  ],
};

const arcee: Layout<ArceeConfig> = {
  name: "arcee",
  layer: LLAMA,
  order: INTERLEAVED,
  activation: "relu2",
  rotations: ["yarn"],
  rope,
  keys: rms,
};

const nemotron: Layout<NemotronConfig> = {
  name: "nemotron",
  layer: LLAMA,
  onePlus: true,
  activation: "relu2",
  needsHead: true,
  rope,
  keys: ({ normEps }) => ({ [LAYER_NORM]: f32(normEps) }),
};

const glm4: Layout<GatedConfig> = {
  name: "glm4",
  layer: {
    ...ATTENTION,
    post_self_attn_layernorm: "post_attention_norm",
    post_attention_layernorm: "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    post_mlp_layernorm: "post_ffw_norm",
  },
  biases: QKV_BIASES,
  activation: "silu",
  rope,
  keys: rms,
};

const ernie45: Layout<GatedConfig> = { name: "ernie4_5", layer: LLAMA, activation: "silu", rope, keys: rms };

const hunyuan: Layout<GatedConfig> = {
  name: "hunyuan-dense",
  layer: {
    ...LLAMA,
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
  },
  activation: "silu",
  rope,
  keys: rms,
};

const seedOss: Layout<GatedConfig> = {
  name: "seed_oss",
  layer: { ...ATTENTION, post_attention_layernorm: "post_attention_norm", ...GATED },
  biases: QKV_BIASES,
  activation: "silu",
  rope,
  keys: rms,
};

/** Those that llama.cpp was seen to compute as they are here, by transformers' `model_type`. */
export const LAYOUTS: ReadonlyMap<string, Layout> = new Map<string, Layout>(
  Object.entries({
    llama,
    mistral,
    qwen2,
    qwen3,
    gemma,
    gemma2,
    gemma3_text: gemma3,
    phi3,
    phi,
    gpt_neox: gptNeox,
    starcoder2,
    stablelm,
    olmo2,
    olmo3,
    exaone4,
    smollm3,
    granite,
    cohere,
    cohere2,
    arcee,
    nemotron,
    glm4,
    ernie4_5: ernie45,
    hunyuan_v1_dense: hunyuan,
    seed_oss: seedOss,
  } as unknown as Record<string, Layout>),
);
