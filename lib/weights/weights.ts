/** The weights of a model's folder under the names of transformers' class, whatever the files call them. */
import type { SavedTensor } from "../parameters/saved_tensor.ts";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { statOf } from "../files/stat_of.ts";
import { type Checkpoint, hasWeights, openCheckpoint, type TensorReader } from "../safetensors/read.ts";
import { type FloatDtype, isFloatDtype, tensorBytes } from "../safetensors/dtype.ts";
import type { TensorInfo } from "../safetensors/header.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { readModelConfig } from "./config_file.ts";
import { contradictions } from "./contradictions.ts";
import { findNames } from "./names.ts";
import { partsOf } from "../parameters/parameter.ts";
import { architectureOf } from "../models/models.ts";
import { MULTIMODAL } from "../models/multimodal.ts";

/**
 * The weights of a model, open for reading by the names of transformers' class; what that does not use is not there.
 */
export interface ModelWeights extends Checkpoint {
  /** config.json, with `tieWordEmbeddings` as the files have it. */
  model: ModelConfig;
  /** What is saved again, in the order of the files. */
  saved: SavedTensor[];
}

/** Buffers of old checkpoints that transformers passes over without a word. */
const PASSED_OVER = /rotary_emb\.inv_freq/;
/** Elements that are compared at a time. */
const PIECE = 2 ** 20;
/** Names that a message lists. */
const SHOWN = 8;
/** Types that no quantization leaves: such weights were saved so. */
const NEVER_QUANTIZED = ["F64", "I64", "BOOL"];

/**
 * Opens config.json and the weights of a model's folder, and fits one to the other as transformers 5 does: a head
 * that is not the embedding is not tied to it, whatever config.json says; weights are found with and without the
 * architecture's prefix (`model.`) before their names, and, unlike there, by the end of their names under any other
 * prefix.
 *
 * @param warn hears what is said to people, once each.
 * @throws {UserError} naming every tensor that is missing, twice there, or of another shape or type.
 */
export async function openModel(
  folder: string,
  warn: (message: string) => void = () => {},
): Promise<ModelWeights> {
  if (await statOf(join(folder, "adapter_config.json"))) {
    throw new UserError(
      `${
        join(folder, "adapter_config.json")
      }: the folder is of adapters (PEFT): to train them on, name their base model, and this folder as ` +
        "adapter_name_or_path; otherwise `simper merge` makes a model of both",
    );
  }
  const checkpoint = await openCheckpoint(folder, warn);
  try {
    return await fit(checkpoint, await readModelConfig(folder, warn), folder, warn);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** The shape of a model: config.json, and what its weights change of it where they are there. */
export async function readModel(folder: string, warn?: (message: string) => void): Promise<ModelConfig> {
  if (!await hasWeights(folder)) return await readModelConfig(folder, warn);
  const weights = await openModel(folder, warn);
  await weights.close();
  return weights.model;
}

/** The tensors of a reader under other names; those that `names` lacks are not there. */
export function renamed(
  { tensors, readF32, readBytes }: TensorReader,
  names: ReadonlyMap<string, string>,
): TensorReader {
  const present = [...names].filter(([, name]) => tensors.has(name));
  return {
    tensors: new Map(present.map(([parameter, name]) => [parameter, tensors.get(name)!])),
    readF32: (parameter, ...range) => readF32(names.get(parameter) ?? parameter, ...range),
    readBytes: (parameter, ...range) => readBytes(names.get(parameter) ?? parameter, ...range),
  };
}

async function fit(
  checkpoint: Checkpoint,
  config: ModelConfig,
  folder: string,
  warn: (message: string) => void,
): Promise<ModelWeights> {
  const architecture = architectureOf(config);
  const net = architecture.net({ ...config, tieWordEmbeddings: false });
  const shapes = partsOf(net.parameters);
  const [embedding, head] = [net.inputEmbeddings, net.outputEmbeddings].map(({ parts }) => parts[0].name);
  const base = `${architecture.baseModelPrefix}.`;
  const places = MULTIMODAL.get(config.partOf ?? "") ??
    { prefixes: [base, "", base + base], headPrefixes: ["", base] };
  const { otherNames, buffers } = architecture;
  const { names, prefix } = findNames(
    checkpoint.tensors,
    [...shapes.keys()],
    { base, ...places, otherNames },
    folder,
  );
  const found = { embedding: names.get(embedding), head: names.get(head) };
  let tieWordEmbeddings = config.tieWordEmbeddings;
  if (tieWordEmbeddings && found.embedding === undefined && found.head !== undefined) {
    names.set(embedding, found.head);
  }
  // A head that is stored is checked, tied or not.
  const isHeadless = tieWordEmbeddings && found.head === undefined;
  check(checkpoint.tensors, names, {
    config,
    shapesOf: (config) => partsOf(architecture.net({ ...config, tieWordEmbeddings: isHeadless }).parameters),
    head,
  }, folder);

  if (tieWordEmbeddings && found.embedding !== undefined && found.head !== undefined) {
    tieWordEmbeddings = await isEqual(checkpoint, found.embedding, found.head, shapes.get(head)!);
    if (!tieWordEmbeddings) {
      warn(
        `${folder}: tie_word_embeddings is true in config.json, but ${found.head} differs from ` +
          `${found.embedding}: they are not tied, as in transformers 5, and both are trained and saved. ` +
          "transformers 4 loses the head of such a model: tie_word_embeddings: false in config.json says " +
          "what the files hold",
      );
    }
  }
  if (tieWordEmbeddings) names.delete(head);
  const parameters = new Map([...names].map(([parameter, name]) => [name, parameter]));
  if (tieWordEmbeddings && found.head !== undefined) parameters.set(found.head, embedding);

  if (prefix !== undefined) {
    warn(
      `${folder}: the weights are read from under ${
        show(prefix)
      } and saved there again; transformers' class of ` +
        `model_type ${config.partOf ?? config.modelType} finds them only without it`,
    );
  }
  const unused = [...checkpoint.tensors.keys()].filter((name) =>
    !parameters.has(name) && (config.partOf !== undefined || !(PASSED_OVER.test(name) || buffers?.test(name)))
  );
  if (unused.length > 0 && config.partOf !== undefined) {
    warn(
      `${folder}: the text part of ${config.partOf} is trained; ${unused.length} other tensors of the files ` +
        `are saved again as they are: ${list(collapsed(unused))}`,
    );
  } else if (unused.length > 0) {
    warn(
      `${folder}: of the files' tensors ${unused.length} have no place in the model of config.json, and are neither ` +
        `used nor saved again, as in transformers: ${list(collapsed(unused))}`,
    );
  }
  const saved = [...checkpoint.tensors.values()].flatMap(({ name, dtype, shape }): SavedTensor[] => {
    const parameter = parameters.get(name);
    if (parameter !== undefined) return [{ name, parameter, dtype: dtype as FloatDtype, shape }];
    if (config.partOf === undefined) return [];
    return [{ name, dtype, shape, chunks: () => chunksOf(checkpoint, name) }];
  });
  const { files, close } = checkpoint;
  const dtype = config.dtype ?? dtypeOf(folder, checkpoint);
  return {
    files,
    close,
    ...renamed(checkpoint, names),
    saved,
    model: { ...config, dtype, tieWordEmbeddings },
  };
}

const DTYPES = { BF16: "bfloat16", F16: "float16", F32: "float32" } as const;

/**
 * As transformers' `dtype="auto"` where config.json names none: the one in the metadata of the shards' index, or else
 * that of the first file's first tensor of numbers.
 * @throws {UserError} where the index names one that there is not.
 */
function dtypeOf(folder: string, { tensors, files: [file], metadata }: Checkpoint): ModelConfig["dtype"] {
  if (metadata && "dtype" in metadata) {
    const supported = Object.values(DTYPES);
    const named = supported.find((name) => name === metadata.dtype);
    if (named !== undefined) return named;
    throw new UserError(
      `${folder}: metadata.dtype of the index of safetensors: expected ${supported.join(" or ")}, found ` +
        `${show(metadata.dtype)}: name the right one there, or as dtype in config.json, which comes first`,
    );
  }
  const first = [...tensors.values()].filter((info) => info.file === file && isFloatDtype(info.dtype))
    .sort((a, b) => a.name < b.name ? -1 : 1).at(0);
  return first && DTYPES[first.dtype as FloatDtype];
}

/** A tensor's bytes as they lie in the file. */
export async function* chunksOf(
  { tensors, readBytes }: Pick<TensorReader, "tensors" | "readBytes">,
  name: string,
): AsyncGenerator<Uint8Array> {
  const { dtype, shape } = tensors.get(name)!;
  const bytes = tensorBytes(dtype, shape)!;
  for (let at = 0; at < bytes; at += 4 * PIECE) {
    yield await readBytes(name, at, Math.min(4 * PIECE, bytes - at));
  }
}

/** Refuses what cannot be trained: all at once, and types before shapes, which those of quantized weights change. */
function check(
  tensors: ReadonlyMap<string, TensorInfo>,
  names: ReadonlyMap<string, string>,
  { config, shapesOf, head }: {
    config: ModelConfig;
    /** The tensors that a configuration needs. */
    shapesOf: (config: ModelConfig) => ReadonlyMap<string, readonly number[]>;
    head: string;
  },
  folder: string,
): void {
  const found = [...names.values()].map((name) => tensors.get(name)!);
  const untrained = found.filter(({ dtype }) => !isFloatDtype(dtype));
  if (untrained.length > 0) {
    const [{ name, file, dtype }] = untrained;
    const types = [...new Set(untrained.map(({ dtype }) => dtype))];
    throw new UserError(
      `${file}: tensor ${show(name)} is of type ${dtype}, which is not trained: expected F32, F16 or BF16` +
        (untrained.length > 1 ? ` (${untrained.length} tensors are of ${types.join(", ")})` : "") +
        (types.some((type) => NEVER_QUANTIZED.includes(type))
          ? ". Load the model in float32 with transformers and save_pretrained() it"
          : ". Take the model's files as they were before it was quantized"),
    );
  }
  const fileTensor = (parameter: string) => tensors.get(names.get(parameter) ?? "");
  const { values, unexplained } = contradictions(config, shapesOf, fileTensor);
  const problems = [...unexplained].map(([parameter, shape]) => {
    const there = fileTensor(parameter);
    const hint = parameter === head ? " (tie_word_embeddings: true would take the embedding's)" : "";
    return there
      ? `${there.name}: shape [${there.shape}], expected [${shape}]`
      : `${parameter}: missing, expected shape [${shape}]${hint}`;
  });
  problems.unshift(...values);
  if (problems.length === 0) return;
  const other = [...tensors.values()].find(({ dtype }) => !isFloatDtype(dtype));
  throw new UserError(
    `${folder}: the weights do not fit config.json:\n  ${problems.slice(0, SHOWN).join("\n  ")}` +
      (problems.length > SHOWN ? `\n  and ${problems.length - SHOWN} more` : "") +
      `\nare both of the same model? The files hold ${list([...tensors.keys()])}` +
      (other
        ? `; ${show(other.name)} is of type ${other.dtype}, which is not trained: are they quantized?`
        : ""),
  );
}

/** Whether two tensors of one shape have the same numbers, as `torch.equal` says: -0 is 0, and NaN nothing. */
async function isEqual(
  { readF32 }: TensorReader,
  one: string,
  other: string,
  shape: readonly number[],
): Promise<boolean> {
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  for (let at = 0; at < elements; at += PIECE) {
    const count = Math.min(PIECE, elements - at);
    const [a, b] = await Promise.all([readF32(one, at, count), readF32(other, at, count)]);
    if (!a.every((value, i) => value === b[i])) return false;
  }
  return true;
}

/** Names that differ in numbers alone as one: `layers.{2...3}.mlp.up_proj.bias`. */
function collapsed(names: readonly string[]): string[] {
  const groups = Map.groupBy(names, (name) => name.replace(/(?<=\.)\d+(?=\.)/g, "*"));
  return [...groups].map(([pattern, group]) => {
    if (group.length === 1) return group[0];
    const numbers = group.map((name) => Number(/(?<=\.)\d+(?=\.)/.exec(name)![0])).sort((a, b) => a - b);
    const [first, last] = [numbers[0], numbers.at(-1)];
    return pattern.replace("*", first === last ? `${first}` : `{${first}...${last}}`);
  });
}

const list = (names: readonly string[]) =>
  names.slice(0, SHOWN).map(show).join(", ") +
  (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : "");
