import { isObject, show } from "../text/json.ts";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./architecture.ts";
import { Fields } from "./fields.ts";
import { ARCHITECTURES } from "./models.ts";
import { isTied, MULTIMODAL, textFields } from "./multimodal.ts";
import { whatIsMissing } from "./unsupported.ts";

const QUANTIZED =
  "the weights are quantized already: take the model as it was before; load_in_4bit and load_in_8bit quantize " +
  "frozen weights of it here";

/** Keys that change in transformers what is computed, or what is read: null leaves it as it is. */
const NOT_SUPPORTED: Record<string, string> = {
  quantization_config: QUANTIZED,
  compression_config: QUANTIZED,
  per_layer_config: "layers that differ from each other are not supported",
  transformers_weights: "weights under another name are not read: call the file model.safetensors",
  configuration_files: "only config.json is read: put what it should say there",
  fusion_config: "fused modules are not supported: remove it",
};

/**
 * The model that a config.json describes, as transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`) or 5
 * (`rope_parameters`, `dtype`) writes it. Absent keys take the defaults of transformers' class; what that does not
 * look at is not looked at here either, and what would change its numbers is followed or refused.
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
  const whole = new Fields(json);
  const multimodal = MULTIMODAL.get(String(json.model_type));
  const fields = multimodal ? textFields(whole, multimodal) : whole;
  const architecture = ARCHITECTURES.get(String(fields.value("model_type")));
  if (!architecture) fields.problem(`model_type: ${notSupported(fields.value("model_type"))}`);
  // The keys of another architecture follow other rules, so its other "problems" would mislead.
  if (!architecture) throw fields.failure(where);
  for (const of of new Set([whole, fields])) checkCommon(of);
  const config = architecture.config(fields);
  if (multimodal) {
    config.partOf = String(json.model_type);
    config.tieWordEmbeddings = isTied(whole, multimodal, config.tieWordEmbeddings);
    config.dtype = whole.dtype("dtype") ?? whole.dtype("torch_dtype") ?? config.dtype;
  }
  if (fields.problems.length > 0) throw fields.failure(where);
  for (const warning of fields.warnings) warn(`${where}: ${warning}`);

  const padTokenId = Number(fields.value("pad_token_id") ?? 0);
  if (config.padTokenId !== undefined && padTokenId < 0) {
    warn(
      `${where}: pad_token_id: ${padTokenId} counts from the end, as PyTorch does: the embedding of token ` +
        `${config.padTokenId} is not trained where it is looked up`,
    );
  }
  const { architectures } = json;
  const { className } = multimodal ?? architecture;
  if (Array.isArray(architectures) && architectures.length > 0 && !architectures.includes(className)) {
    warn(
      `${where}: architectures: ${show(architectures)}; the model is trained as ${className}, which ` +
        `transformers takes for model_type ${json.model_type}`,
    );
  }
  if ((json.auto_map ?? null) !== null && !architecture.isOwnCode) {
    warn(
      `${where}: auto_map names code of the model's own, which is not run: it is trained as ${className}, as ` +
        "in transformers without trust_remote_code",
    );
  }
  return config;
}

function checkCommon(fields: Fields): void {
  for (const [key, why] of Object.entries(NOT_SUPPORTED)) {
    if ((fields.value(key) ?? null) !== null) fields.problem(`${key}: ${why}`);
  }
  // Python's rule: whatever is there and not true lets tokens see later ones.
  const isCausal = fields.value("is_causal");
  if (isCausal !== undefined && isCausal !== true) {
    fields.problem(`is_causal: ${show(isCausal)} lets tokens see later ones, which is not supported`);
  }
}

function notSupported(modelType: unknown): string {
  const names = [...ARCHITECTURES.keys()];
  if (typeof modelType !== "string") return `expected ${names.join(" or ")}, found ${show(modelType)}`;
  const missing = whatIsMissing(modelType);
  return `${show(modelType)} ${missing ? `${missing}, which is` : "is"} not supported yet; supported: ${
    names.join(", ")
  }`;
}
