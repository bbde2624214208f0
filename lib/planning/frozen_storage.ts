/** How the parameters that a run does not train are stored. */
import type { QuantizationOptions } from "../../kernels/quantized.ts";
import type { StorageType } from "../../kernels/storage.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Net } from "../graph/net.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { isTrained, type ParameterSpec } from "../parameters/parameter.ts";

const STORAGE: Record<string, StorageType> = { bfloat16: "bf16", float16: "f16", float32: "f32" };

/**
 * `net`, whose roles are set, with the storage of its frozen matrices. Quantized are, as by transformers, those of
 * linear layers but the head, which may be the embedding.
 */
export function storeFrozen(net: Net, { dtype: own }: Pick<ModelConfig, "dtype">, config: TrainConfig): Net {
  const { loadIn4bit, loadIn8bit, bnb4bitQuantType, useBnbNestedQuant } = config;
  const { dtype = loadIn4bit || loadIn8bit || config.usePeft ? "auto" : "float32" } = config;
  const storage = STORAGE[dtype === "auto" ? own ?? "float32" : dtype];
  const from = storage === "f32" ? {} : { from: storage };
  const quantized: QuantizationOptions | undefined = loadIn4bit
    ? { type: bnb4bitQuantType, double: useBnbNestedQuant, ...from }
    : loadIn8bit
    ? { type: "int8", ...from }
    : undefined;
  const isLinear = (spec: ParameterSpec) => spec !== net.inputEmbeddings && spec !== net.outputEmbeddings;
  for (const spec of net.parameters) {
    if (isTrained(spec) || spec.kind !== "matrix") continue;
    spec.storage = quantized && isLinear(spec) ? quantized : storage;
  }
  const table = net.inputEmbeddings;
  // A batch looks up a few thousand rows of it; answers choose their tokens on the GPU.
  const isOnHost = !isTrained(table) && table !== net.outputEmbeddings && config.prompts.length === 0;
  if (isOnHost && !config.fromScratch) table.isOnHost = true;
  return net;
}

/**
 * The net of a run's reference model, with matrices stored as those of the same names in the run's: a run begins as
 * its reference.
 */
export function storeAs(net: Net, reference: Net): Net {
  const storage = new Map(net.parameters.map(({ name, storage }) => [name, storage]));
  for (const spec of reference.parameters) spec.storage = storage.get(spec.name);
  return reference;
}
