/**
 * Models of texts and pictures whose text part is a decoder of its own, which is trained alone: the rest is saved as
 * it was.
 */
import { isObject } from "../text/json.ts";
import { Fields } from "./fields.ts";

export interface Multimodal {
  /** transformers' class. */
  readonly className: string;
  /** The text part's `model_type` where `text_config` has none. */
  readonly text: string;
  /** Whether the class takes no other, whatever `text_config` says. */
  readonly isTextFixed?: true;
  /**
   * The class's default of `tie_word_embeddings`, which counts in the text part's place; or either may say that they
   * are tied.
   */
  readonly tied: boolean | "either";
  /**
   * What comes before the names of the text part's layers in files that transformers reads: as it writes them now and
   * before.
   */
  readonly prefixes: readonly string[];
  /** And before the head's. */
  readonly headPrefixes: readonly string[];
}

const LLAVA = {
  text: "llama",
  tied: "either",
  prefixes: ["model.language_model.", "language_model.model.", "language_model."],
  headPrefixes: ["", "language_model."],
} as const;
const IDEFICS3 = {
  text: "llama",
  tied: false,
  prefixes: ["model.text_model.", "text_model."],
  headPrefixes: [""],
} as const;

/**
 * By `model_type`. Their classes' heads are the plain product: text parts that scale their logits would be computed
 * otherwise.
 */
export const MULTIMODAL: ReadonlyMap<string, Multimodal> = new Map<string, Multimodal>([
  ["gemma3", {
    ...LLAVA,
    className: "Gemma3ForConditionalGeneration",
    text: "gemma3_text",
    isTextFixed: true,
    tied: true,
  }],
  ["got_ocr2", { ...LLAVA, className: "GotOcr2ForConditionalGeneration", text: "qwen2", tied: true }],
  ["idefics3", { ...IDEFICS3, className: "Idefics3ForConditionalGeneration" }],
  ["internvl", { ...LLAVA, className: "InternVLForConditionalGeneration", text: "qwen2", tied: true }],
  ["lighton_ocr", { ...LLAVA, className: "LightOnOcrForConditionalGeneration", text: "qwen3", tied: true }],
  ["llava", { ...LLAVA, className: "LlavaForConditionalGeneration" }],
  ["llava_next", { ...LLAVA, className: "LlavaNextForConditionalGeneration", tied: false }],
  ["llava_next_video", { ...LLAVA, className: "LlavaNextVideoForConditionalGeneration" }],
  ["llava_onevision", { ...LLAVA, className: "LlavaOnevisionForConditionalGeneration", text: "qwen2" }],
  ["mistral3", { ...LLAVA, className: "Mistral3ForConditionalGeneration", text: "mistral", tied: true }],
  ["smolvlm", { ...IDEFICS3, className: "SmolVLMForConditionalGeneration" }],
  ["vipllava", { ...LLAVA, className: "VipLlavaForConditionalGeneration", tied: false }],
]);

/** Text parts whose own class scales or caps its logits. */
const SCALED = ["cohere", "cohere2", "gemma2", "granite", "vaultgemma"];

/** The text part's keys. */
export function textFields(whole: Fields, { className, text, isTextFixed }: Multimodal): Fields {
  const config = whole.value("text_config");
  if (!isObject(config)) {
    whole.problem("text_config: expected the configuration of the text part, an object");
    return whole.of("text_config", {});
  }
  const modelType = isTextFixed ? text : config.model_type ?? text;
  const fields = whole.of("text_config", { ...config, model_type: modelType });
  if (SCALED.includes(String(modelType)) || (config.final_logit_softcapping ?? null) !== null) {
    fields.problem(
      `model_type: "${modelType}" scales its logits where it stands alone, and ${className} does not: this ` +
        "is not supported",
    );
  }
  return fields;
}

/** Whether the head is the embedding. */
export const isTied = (whole: Fields, { tied }: Multimodal, ofText: boolean): boolean =>
  tied === "either"
    ? whole.boolean("tie_word_embeddings") || ofText
    : whole.boolean("tie_word_embeddings", tied);
