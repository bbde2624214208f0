import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";

/**
 * What transformers 5.17 makes a tokenizer of, by its class. Some classes take tokenizer.json as it is; others take
 * its vocabulary and merges alone and bring their own normalizer, pre-tokenizer and decoder.
 */
export interface TokenizerClass {
  name: string;
  /** The file's contents as the class has them, without the added tokens, which come from the configuration then. */
  rebuild?: (json: Json, config: Json) => Json;
  /** Special tokens where the configuration names none. */
  tokens?: Record<string, string>;
  /** Whether a pad_token that only a stored padding names is one, which is so by default. */
  padsAsStored?: boolean;
  /** Whether the class adds its special tokens once more, with flags of its own. */
  addsSpecialTokens?: boolean;
}

type Json = Record<string, unknown>;

/** The class that transformers has for the models of a `model_type`, where it has one; of decoders alone. */
const CLASS_OF_MODEL: Record<string, string> = Object.fromEntries(
  Object.entries({
    TokenizersBackend:
      "mistral mixtral mistral3 ministral ministral3 pixtral voxtral phi3 phimoe olmo2 olmo3 granite " +
      "granitemoe glm glm4 glm4_moe stablelm gpt_bigcode persimmon deepseek_v2 deepseek_v3 internlm2 minicpm3 " +
      "minimax_m2 nemotron ernie4_5 ernie4_5_moe arctic jamba hyperclovax smolvlm llava",
    GemmaTokenizer: "gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma",
    Qwen2Tokenizer: "qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next qwen2_vl qwen2_5_vl qwen3_vl",
    GPT2Tokenizer: "gpt2 gpt_neo gptj phi opt starcoder2 codegen dbrx",
    GPTNeoXTokenizer: "gpt_neox olmo olmoe mamba mamba2 mpt rwkv falcon_mamba xlstm",
    CohereTokenizer: "cohere cohere2",
    CodeLlamaTokenizer: "code_llama",
  }).flatMap(([name, types]) => types.split(" ").map((type) => [type, name])),
);

/** Classes that are not what their name in a configuration says, so that the model's counts. */
const OVERRULED = new Set(["qwen2"]);

/** Classes of transformers that make a tokenizer in a way that is not known here. */
const OTHERS = new Set(
  ("Albert Bart Barthez Bert BigBird Blenderbot CLIP Camembert CodeGen CodeLlama Cohere Cpm DPRContextEncoder " +
    "DPRQuestionEncoder DPRReader Deberta DebertaV2 DistilBert Esmc Funnel Herbert LED Lasr LayoutLMv2 " +
    "LayoutLMv3 LayoutXLM Luke Lxmert MBart50 MBart MLuke MPNet MarkupLM MobileBert Mvp Nllb Nougat " +
    "OpenAIGPT Pegasus Qwen3_5 Reformer RemBert RoFormer Roberta SeamlessM4T Siglip2 Splinter SqueezeBert T5 " +
    "Tipsv2 Udop VideoPrism Whisper XGLM XLMRoberta XLNet ConvBert FNet Bartpho BertGeneration Character " +
    "GPTSw3 M2M100 Marian Mecab PLBart Pop2Piano Rag Siglip Speech2Text SpeechT5 BertJapanese Bertweet " +
    "BioGpt BlenderbotSmall ByT5 CTRL Canine Clvp CpmAnt Dia Esm FSMT FastSpeech2Conformer Flaubert " +
    "GPTNeoXJapanese Mgpstr MyT5 Perceiver Phobert ProphetNet RoCBert Tapas Vits Wav2Vec2CTC " +
    "Wav2Vec2PhonemeCTC XLM")
    .split(" ").map((name) => `${name}Tokenizer`),
);

/**
 * The class for a folder's tokenizer_config.json and config.json, as transformers' AutoTokenizer chooses it.
 *
 * @throws {UserError} for one that is not known here.
 */
export function tokenizerClass(config: Json, model: Json, configPath: string): TokenizerClass {
  const named = textOf(config.tokenizer_class) ?? textOf(model.tokenizer_class);
  const ofModel = CLASS_OF_MODEL[String(model.model_type)] as string | undefined;
  const wanted = named?.replace(/Fast$/, "");
  const hasCode = isObject(config.auto_map)
    ? Boolean(config.auto_map.AutoTokenizer)
    : Array.isArray(config.auto_map);
  if (hasCode && ofModel === undefined && (wanted === undefined || !isKnown(wanted))) {
    throw new UserError(
      `${configPath}: auto_map: the tokenizer is Python code of the model's own, which is not run; a model ` +
        "whose tokenizer transformers itself has is needed",
    );
  }
  let name = wanted ?? ofModel ?? GENERIC;
  if (!hasCode && wanted !== undefined && ofModel !== undefined && ofModel !== wanted) {
    name = ofModel === GENERIC ? GENERIC : OVERRULED.has(String(model.model_type)) ? ofModel : wanted;
  }
  if (OTHERS.has(name)) {
    throw new UserError(
      `${configPath}: tokenizer_class: ${
        show(name)
      } makes its tokenizer in a way of its own, which is not supported`,
    );
  }
  return { name, ...CLASSES[name] };
}

const GENERIC = "TokenizersBackend";
const textOf = (value: unknown) => typeof value === "string" && value !== "" ? value : undefined;
const isKnown = (name: string) =>
  name in CLASSES || OTHERS.has(name) || [GENERIC, "PreTrainedTokenizer", "BloomTokenizer"].includes(name);

/** Words as Qwen2 cuts them. */
const QWEN2_WORDS = String
  .raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

const byteLevel = (add_prefix_space: boolean, use_regex = true) => ({
  type: "ByteLevel",
  add_prefix_space,
  trim_offsets: true,
  use_regex,
});
const BYTE_LEVEL = byteLevel(false);
const NFC = { type: "NFC" };

const CLASSES: Record<string, Omit<TokenizerClass, "name">> = {
  LlamaTokenizer: {
    tokens: { unk_token: "<unk>", bos_token: "<s>", eos_token: "</s>" },
    rebuild: (json, config) => {
      const spaced = (config.add_prefix_space ?? true) === true;
      const first = (config.legacy ?? false) === false || config.legacy === null;
      return rebuilt(json, { fuse_unk: true, byte_fallback: true }, {
        normalizer: null,
        pre_tokenizer: {
          type: "Metaspace",
          replacement: "▁",
          prepend_scheme: !spaced ? "never" : first ? "first" : "always",
          split: false,
        },
        decoder: sentencePieceDecoder(spaced ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      });
    },
  },
  GemmaTokenizer: {
    padsAsStored: false,
    tokens: {
      unk_token: "<unk>",
      bos_token: "<bos>",
      eos_token: "<eos>",
      pad_token: "<pad>",
      mask_token: "<mask>",
    },
    rebuild: (json, config) =>
      rebuilt(json, {
        fuse_unk: true,
        byte_fallback: true,
        unk_token: "unk_token" in config ? contentOf(config.unk_token) : "<unk>",
      }, {
        normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
        pre_tokenizer: {
          type: "Split",
          pattern: { String: " " },
          behavior: "MergedWithPrevious",
          invert: false,
        },
        decoder: sentencePieceDecoder([]),
      }),
  },
  Qwen2Tokenizer: {
    padsAsStored: false,
    tokens: {
      unk_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
      pad_token: "<|endoftext|>",
    },
    addsSpecialTokens: true,
    rebuild: (json, config) =>
      rebuilt(json, {}, {
        normalizer: NFC,
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [
            { type: "Split", pattern: { Regex: QWEN2_WORDS }, behavior: "Isolated", invert: false },
            byteLevel(config.add_prefix_space === true, false),
          ],
        },
        decoder: BYTE_LEVEL,
      }),
  },
  GPT2Tokenizer: {
    padsAsStored: false,
    tokens: {
      unk_token: "<|endoftext|>",
      bos_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
    },
    rebuild: (json, config) =>
      rebuilt(json, {}, {
        normalizer: null,
        pre_tokenizer: byteLevel(config.add_prefix_space === true),
        decoder: BYTE_LEVEL,
      }),
  },
  GPTNeoXTokenizer: {
    padsAsStored: false,
    tokens: {
      unk_token: "<|endoftext|>",
      bos_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
      pad_token: "<|padding|>",
    },
    rebuild: (json, config) =>
      rebuilt(json, {}, {
        normalizer: NFC,
        pre_tokenizer: byteLevel(config.add_prefix_space === true),
        decoder: BYTE_LEVEL,
      }),
  },
};

const contentOf = (token: unknown) => isObject(token) ? token.content : token;

const sentencePieceDecoder = (more: Json[]) => ({
  type: "Sequence",
  decoders: [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    ...more,
  ],
});

/** Vocabulary and merges of the file, everything else of the class. */
function rebuilt(json: Json, model: Json, parts: Json): Json {
  const { vocab, merges } = isObject(json.model) ? json.model : {};
  return {
    ...json,
    ...parts,
    added_tokens: [],
    model: { type: "BPE", vocab, merges: merges ?? [], ...model },
  };
}
