/** A model's folder as one GGUF file, for llama.cpp and what is built on it. */
import { basename, resolve } from "node:path";
import { type ModelFolder, openFound } from "../adapters/model.ts";
import { UserError } from "../errors.ts";
import { ropeInverseFrequencies, type RopeSpec } from "../graph/rope_table.ts";
import { architectureOf } from "../models/models.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { TensorReader } from "../safetensors/read.ts";
import { readTokenTable } from "../tokenizer/tokenizer.ts";
import type { ModelWeights } from "../weights/weights.ts";
import { GGML_TYPES, type GgmlType, toGgml } from "./ggml.ts";
import { type GgufTensor, type GgufValue, writeGguf } from "./gguf.ts";
import { type ExportedConfig, type Layout, LAYOUTS, type RowOrder } from "./layouts.ts";
import { vocabularyOf } from "./vocabulary.ts";

/** What an export tells of itself. */
export interface ExportEvents {
  /** Told of what is otherwise in the file than in the model. */
  warn?: (message: string) => void;
  /** How far the writing is, in bytes. */
  onProgress?: OnProgress;
}

/** Elements that are converted at a time: a whole number of blocks. */
const PIECE = 2 ** 20;
/** The largest number of float16. */
const LARGEST_F16 = 65504;

/**
 * Writes a model, with its adapters merged in where it has any, into `file`, piece by piece: weights in `type`, but
 * norms, biases and tables in float32, and rows that are no whole number of blocks of `q8_0` in float16, as
 * llama.cpp's converter has them.
 *
 * @throws {UserError} as `openFound`; for an architecture or tokenizer that llama.cpp has no equal of, by name; for
 * weights too large for float16; where the file cannot be written.
 */
export async function exportGguf(
  found: ModelFolder,
  file: string,
  given: GgmlType | undefined,
  { warn = () => {}, onProgress }: ExportEvents = {},
): Promise<void> {
  const { folder, adapter = folder } = found;
  const weights = await openFound(found, warn);
  try {
    const config = weights.model as ExportedConfig;
    const type = given ?? (config.dtype === "float16" ? "f16" : config.dtype === "bfloat16" ? "bf16" : "f32");
    const layout = layoutOf(config, folder);
    const window = layout.lostWindow?.(config);
    if (window !== undefined && window < config.maxPositionEmbeddings) {
      warn(
        `${folder}: llama.cpp's ${layout.name} has no sliding window: beyond ${window} tokens it reads a ` +
          "text otherwise",
      );
    }
    const rotation = rotationOf(layout, config, folder, warn);
    const metadata = new Map<string, GgufValue>([
      ["general.architecture", { type: "string", value: layout.name }],
      ["general.type", { type: "string", value: "model" }],
      ["general.name", { type: "string", value: basename(resolve(adapter)) }],
      ["general.file_type", { type: "uint32", value: GGML_TYPES[type].fileType }],
      ["general.quantization_version", { type: "uint32", value: 2 }],
      ...Object.entries({ ...shapeKeys(config), ...rotation.keys, ...layout.keys(config) }).flatMap((
        [key, value],
      ) => value ? [[`${layout.name}.${key}`, value] as const] : []),
      ...vocabularyOf(await readTokenTable(folder), config.vocabSize, warn),
    ]);
    const tensors = [...rotation.tensors, ...weightTensors(weights, layout, config, type, folder)];
    const narrow = type === "q8_0" ? tensors.filter((tensor) => tensor.type === "f16").length : 0;
    if (narrow > 0) {
      warn(
        `${folder}: ${narrow} matrices are in f16: their rows are no multiples of ${GGML_TYPES.q8_0.elements}`,
      );
    }
    await writeGguf(file, metadata, tensors, { onProgress });
  } finally {
    await weights.close();
  }
}

function layoutOf(config: ExportedConfig, folder: string): Layout {
  const { modelType, hiddenAct } = config;
  const layout = LAYOUTS.get(modelType);
  if (!layout) {
    throw new UserError(
      `${folder}: model_type ${modelType} cannot be exported to GGUF; those that can: ${
        [...LAYOUTS.keys()].join(", ")
      }`,
    );
  }
  const isActivation = layout.activation === "any gelu"
    ? hiddenAct.startsWith("gelu")
    : hiddenAct === layout.activation;
  const problems = [
    !isActivation && `hidden_act: ${hiddenAct}`,
    ...layout.problems?.(config) ?? [],
  ].filter((problem) => problem !== false);
  if (problems.length > 0) {
    throw new UserError(
      `${folder}: llama.cpp's ${layout.name} has no equal of what config.json says:\n  ${
        problems.join("\n  ")
      }`,
    );
  }
  return layout;
}

const shapeKeys = (config: ExportedConfig): Record<string, GgufValue> => {
  const counts = {
    vocab_size: config.vocabSize,
    context_length: config.maxPositionEmbeddings,
    embedding_length: config.hiddenSize,
    block_count: config.numHiddenLayers,
    feed_forward_length: config.intermediateSize,
    "attention.head_count": config.numAttentionHeads,
    "attention.head_count_kv": config.numKeyValueHeads,
    "attention.key_length": config.headDim,
    "attention.value_length": config.headDim,
  };
  return Object.fromEntries(
    Object.entries(counts).map(([key, value]) => [key, { type: "uint32", value } as const]),
  );
};

/** What says how queries and keys are rotated: keys, and tables of factors. */
function rotationOf(
  layout: Layout,
  config: ExportedConfig,
  folder: string,
  warn: (message: string) => void,
): { keys: Record<string, GgufValue>; tensors: GgufTensor[] } {
  const rope = layout.rope(config);
  const keys: Record<string, GgufValue> = {
    "rope.freq_base": { type: "float32", value: rope.theta },
    "rope.dimension_count": { type: "uint32", value: rope.dimensions },
  };
  const scaled = (type: string, factor: number) => {
    keys["rope.scaling.type"] = { type: "string", value: type };
    keys["rope.scaling.factor"] = { type: "float32", value: factor };
  };
  if (rope.type === "default") return { keys, tensors: [] };
  // Up to the length that the model was made for it is the usual one.
  if (rope.type === "dynamic" && rope.alpha === undefined) {
    warn(
      `${folder}: rope_type dynamic: llama.cpp does not stretch the rotation beyond ` +
        `${rope.maxPositionEmbeddings} tokens`,
    );
    return { keys, tensors: [] };
  }
  if (!layout.rotations?.includes(rope.type)) {
    throw new UserError(`${folder}: rope_type ${rope.type}: llama.cpp's ${layout.name} has no equal of it`);
  }
  switch (rope.type) {
    case "linear":
      scaled("linear", rope.factor);
      return { keys, tensors: [] };
    case "yarn":
      scaled("yarn", rope.factor);
      checkYarn(rope, folder);
      keys["rope.scaling.original_context_length"] = {
        type: "uint32",
        value: rope.originalMaxPositionEmbeddings,
      };
      return { keys, tensors: [] };
    case "longrope":
      keys["rope.scaling.attn_factor"] = { type: "float32", value: rope.attentionFactor };
      return {
        keys,
        tensors: [
          table("rope_factors_long.weight", rope.longFactor),
          table("rope_factors_short.weight", rope.shortFactor),
        ],
      };
    case "llama3": {
      const [usual, own] = [{ ...rope, type: "default" as const }, rope].map((of) =>
        ropeInverseFrequencies(of)
      );
      return { keys, tensors: [table("rope_freqs.weight", usual.map((frequency, i) => frequency / own[i]))] };
    }
  }
  throw new Error(`rope_type ${rope.type} is allowed and not written`);
}

/** Numbers of YaRN that llama.cpp has fixed. */
function checkYarn(rope: RopeSpec & { type: "yarn" }, folder: string): void {
  const usual = 0.1 * Math.log(rope.factor) + 1;
  const isUsual = rope.betaFast === 32 && rope.betaSlow === 1 && rope.truncate &&
    Math.abs(rope.attentionFactor - usual) < 1e-6;
  if (isUsual) return;
  throw new UserError(
    `${folder}: rope_type yarn: llama.cpp has no equal of another beta_fast, beta_slow, attention_factor or truncate`,
  );
}

function table(name: string, values: Iterable<number>): GgufTensor {
  const numbers = Float32Array.from(values);
  return {
    name,
    shape: [numbers.length],
    type: "f32",
    chunks: async function* () {
      yield toGgml(numbers, "f32");
    },
  };
}

/** Modules around the layers by llama.cpp's names. */
const AROUND: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "gpt_neox.embed_in": "token_embd",
  "model.norm": "output_norm",
  "model.final_layernorm": "output_norm",
  "gpt_neox.final_layer_norm": "output_norm",
  lm_head: "output",
};

function weightTensors(
  weights: ModelWeights,
  layout: Layout,
  config: ExportedConfig,
  type: GgmlType,
  folder: string,
): GgufTensor[] {
  const tensors = [...weights.tensors.keys()].map((name) => {
    const [, module, kind] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
    const [, number, part] = /\.layers\.(\d+)\.(.+)$/.exec(module ?? "") ?? [];
    const ours = part === undefined ? AROUND[module] : layout.layer[part];
    const isNorm = /norm$/.test(module ?? "");
    const hasPlace = kind === "weight" || isNorm || part === undefined || layout.biases?.includes(part);
    if (ours === undefined || !hasPlace) {
      throw new UserError(`${folder}: ${name} has no place in llama.cpp's ${layout.name}`);
    }
    return tensorOf(weights, name, {
      name: `${part === undefined ? "" : `blk.${number}.`}${ours}.${kind}`,
      type,
      order: layout.order?.[part],
      config,
      onePlus: layout.onePlus === true && isNorm && kind === "weight",
    });
  });
  if (layout.needsHead && config.tieWordEmbeddings) {
    const embedding = architectureOf(config).net(config).inputEmbeddings.parts[0].name;
    tensors.push(tensorOf(weights, embedding, { name: "output.weight", type, config }));
  }
  return tensors;
}

function tensorOf(
  weights: TensorReader,
  parameter: string,
  { name, type, order, config, onePlus }: {
    name: string;
    type: GgmlType;
    order?: RowOrder;
    config: ExportedConfig;
    onePlus?: boolean;
  },
): GgufTensor {
  const { shape, file } = weights.tensors.get(parameter)!;
  const isMatrix = shape.length > 1 && name.endsWith(".weight") && !name.endsWith("_norm.weight");
  const hasBlocks = shape.at(-1)! % GGML_TYPES[type].elements === 0;
  const stored = !isMatrix ? "f32" : hasBlocks ? type : "f16";
  return {
    name,
    shape,
    type: stored,
    chunks: async function* () {
      for await (const values of valuesOf(weights, parameter, order, config)) {
        if (onePlus) values.forEach((value, i) => values[i] = value + 1);
        if (stored === "f16" && values.some((value) => Math.abs(value) > LARGEST_F16)) {
          throw new UserError(
            `${file}: ${parameter} has a number that is too large for f16: take --type=bf16 or f32`,
          );
        }
        yield toGgml(values, stored);
      }
    },
  };
}

/** The numbers of a tensor in llama.cpp's order. */
async function* valuesOf(
  { tensors, readF32 }: TensorReader,
  name: string,
  order: RowOrder | undefined,
  { headDim, numAttentionHeads: heads }: ExportedConfig,
): AsyncGenerator<Float32Array> {
  const { shape } = tensors.get(name)!;
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  const columns = elements / shape[0];
  const head = headDim * columns;
  switch (order) {
    case undefined:
      for (let at = 0; at < elements; at += PIECE) {
        yield await readF32(name, at, Math.min(PIECE, elements - at));
      }
      return;
    case "halves interleaved":
      for (let at = 0; at < elements; at += head) {
        const rows = await readF32(name, at, head);
        const interleaved = new Float32Array(head);
        for (let row = 0; row < headDim; row++) {
          const from = (row % 2 * headDim / 2 + (row >> 1)) * columns;
          interleaved.set(rows.subarray(from, from + columns), row * columns);
        }
        yield interleaved;
      }
      return;
    case "queries, keys, values":
      for (let part = 0; part < 3; part++) {
        for (let i = 0; i < heads; i++) yield await readF32(name, (3 * i + part) * head, head);
      }
  }
}
