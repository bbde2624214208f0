import type { Net } from "../graph/net.ts";
import type { Fields } from "./fields.ts";

/**
 * What every decoder has, from a model folder's config.json; counts unless said. Each architecture's own type adds to
 * it.
 */
export interface ModelConfig {
  /** The architecture, by transformers' `model_type`: the name of a file of this folder. */
  modelType: string;
  /** Rows of the embedding. */
  vocabSize: number;
  /** Its columns. */
  hiddenSize: number;
  /** Layers. */
  numHiddenLayers: number;
  /** Positions that the model was made for. */
  maxPositionEmbeddings: number;
  /** Whether the LM head is the embedding matrix. */
  tieWordEmbeddings: boolean;
  /**
   * The token whose embedding is not trained by looking it up: PyTorch's `padding_idx`, counted from the end where
   * config.json has a negative number. A tied head still trains it.
   */
  padTokenId?: number;
  /** The dtype that the weights were saved in, where the file says it. */
  dtype?: "float32" | "float16" | "bfloat16";
  /** The multimodal model whose text part it is, by its `model_type`. */
  partOf?: string;
}

/** An architecture: how its config.json is read, and what it computes. */
export interface Architecture<C extends ModelConfig = ModelConfig> {
  /** transformers' `model_type`. */
  readonly modelType: string;
  /** The class that transformers takes for it, whatever `architectures` says. */
  readonly className: string;
  /** What that class's names begin with where it is not the head: transformers' `base_model_prefix`. */
  readonly baseModelPrefix: string;
  /**
   * transformers has no class for it: it takes the code that the checkpoints bring (`auto_map`), which is followed
   * here.
   */
  readonly isOwnCode?: boolean;
  /** What files call parameters besides the class's names: transformers renames them as it loads and saves. */
  readonly otherNames?: Readonly<Record<string, string>>;
  /** Tensors of old files that the class passes over without a word: its `_keys_to_ignore_on_load_unexpected`. */
  readonly buffers?: RegExp;
  /** Reads config.json with the class's own defaults, its own rules for null and its own limits. */
  config(fields: Fields): C;
  /** The forward pass, traced. */
  net(config: C): Net;
}
