import type { ModelConfig } from "./config.ts";

/** A tensor of the checkpoint, by its Hugging Face name, as rows of a fused parameter. */
export interface ParameterPart {
  name: string;
  rows: number;
}

/**
 * One matrix that kernels read. Matrices that are applied to the same input lie under each other (query, key and value;
 * gate and up), so that one product serves them all. `isVector` tells a checkpoint shape of [columns] from [rows, columns].
 */
export interface ParameterSpec {
  name: string;
  parts: ParameterPart[];
  columns: number;
  isVector: boolean;
}

/** The parameters of one decoder layer. */
export type LayerSpec = Record<
  "inputNorm" | "qkv" | "output" | "postNorm" | "gateUp" | "down",
  ParameterSpec
>;

/** The layers' parameters, and those around the layers, in the order of the forward pass. */
export interface DecoderSpec {
  embedding: ParameterSpec;
  layers: LayerSpec[];
  finalNorm: ParameterSpec;
  /** Absent where the embedding matrix serves as the head. */
  head?: ParameterSpec;
}

export const EMBEDDING = "model.embed_tokens.weight";
export const HEAD = "lm_head.weight";

/** Llama (transformers' `modeling_llama.py`): names as in its state_dict. */
export function llamaSpec(config: ModelConfig): DecoderSpec {
  const { hiddenSize, intermediateSize, vocabSize, headDim } = config;
  const queryRows = config.numAttentionHeads * headDim;
  const keyRows = config.numKeyValueHeads * headDim;
  const matrix = (name: string, columns: number, parts: ParameterPart[]): ParameterSpec => ({
    name,
    parts,
    columns,
    isVector: false,
  });
  const norm = (name: string): ParameterSpec => ({
    name,
    parts: [{ name, rows: 1 }],
    columns: hiddenSize,
    isVector: true,
  });
  const layers = Array.from({ length: config.numHiddenLayers }, (_, l) => {
    const at = `model.layers.${l}`;
    const attention = (letter: string) => `${at}.self_attn.${letter}_proj.weight`;
    const mlp = (name: string) => `${at}.mlp.${name}_proj.weight`;
    return {
      inputNorm: norm(`${at}.input_layernorm.weight`),
      qkv: matrix(`${at}.self_attn.{q,k,v}_proj.weight`, hiddenSize, [
        { name: attention("q"), rows: queryRows },
        { name: attention("k"), rows: keyRows },
        { name: attention("v"), rows: keyRows },
      ]),
      output: matrix(attention("o"), queryRows, [{ name: attention("o"), rows: hiddenSize }]),
      postNorm: norm(`${at}.post_attention_layernorm.weight`),
      gateUp: matrix(`${at}.mlp.{gate,up}_proj.weight`, hiddenSize, [
        { name: mlp("gate"), rows: intermediateSize },
        { name: mlp("up"), rows: intermediateSize },
      ]),
      down: matrix(mlp("down"), intermediateSize, [{ name: mlp("down"), rows: hiddenSize }]),
    };
  });
  const vocabulary = (name: string) => matrix(name, hiddenSize, [{ name, rows: vocabSize }]);
  return {
    embedding: vocabulary(EMBEDDING),
    layers,
    finalNorm: norm("model.norm.weight"),
    head: config.tieWordEmbeddings ? undefined : vocabulary(HEAD),
  };
}

/** Every parameter of a decoder, in the order of the forward pass. */
export function allParameters(spec: DecoderSpec): ParameterSpec[] {
  return [
    spec.embedding,
    ...spec.layers.flatMap((layer) => Object.values(layer)),
    spec.finalNorm,
    ...(spec.head ? [spec.head] : []),
  ];
}

/** Rows and columns of a parameter. */
export const shapeOf = (spec: ParameterSpec): [rows: number, columns: number] => [
  spec.parts.reduce((sum, part) => sum + part.rows, 0),
  spec.columns,
];

/** The shape of a checkpoint tensor. */
export const shapeOfPart = (spec: ParameterSpec, part: ParameterPart): number[] =>
  spec.isVector ? [spec.columns] : [part.rows, spec.columns];

/** The checkpoint tensors of a decoder by name, with their shapes. */
export function partsOf(spec: DecoderSpec): Map<string, number[]> {
  return new Map(
    allParameters(spec).flatMap((parameter) =>
      parameter.parts.map((part) => [part.name, shapeOfPart(parameter, part)] as const)
    ),
  );
}

/** How many numbers a decoder has to learn. */
export function parameterCount(config: ModelConfig): number {
  return allParameters(llamaSpec(config)).reduce((sum, spec) => {
    const [rows, columns] = shapeOf(spec);
    return sum + rows * columns;
  }, 0);
}
