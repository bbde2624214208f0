"""One small tokenizer for each component of tokenizers (Rust) and each way in which transformers reads a folder, with the ids and texts
that transformers gives: writes vocabularies.json and tokenizers.json beside this file.

    python make.py [FOLDER]      with transformers 5.17 and tokenizers 0.23

FOLDER takes each as a folder of a model too, for a comparison on more texts.
"""
import base64, json, logging, os, shutil, struct, sys, tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
logging.disable(logging.ERROR)
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [
    "Hello world, it's a test!", "  a  b   c\t\n\nx\r\n ", "", "aaaab" + "a" * 30, "naïve É Straße ŉ İI ſK ﬁ ΌΔΟΣ",
    "日本語 漢字ー 𠮷野 мир й क्षत्रिय", "e\u0301 a\u0323\u0307 \u1e9b\u0323 \u212b ½ ² Ⅷ", "👍🏽👨‍👩‍👧 12 345 ١ \U00011de3", "x_y-z--: (a) ^~`|--",
    "a\u00a0b\u0085c\ufeffd\u200be\u3000g", "<s>x</s> <unk> <tok> <Tok>  x<tok>y _<tok>_", "▁▁a a▁b ##a <0x41>", "the  end\n\ufffd\u0000\u0007b",
]

CORPUS = TEXTS[:3] * 4 + ["test testing tested there then abcdef fedcba привет 漢字 テスト 각"] + ["the quick brown fox jumps over the lazy dog and then there is a test of testing it's we'll don't " * 2,
    "hello world abc abcdef def 1234 12 34 test tested tests", "naïve café école straße привет мир 日本語 テスト"] * 6


def vocabularies():
    def train(model, trainer, normalizer=None, pre=None):
        tokenizer = Tokenizer(model)
        if normalizer: tokenizer.normalizer = normalizer
        if pre: tokenizer.pre_tokenizer = pre
        tokenizer.train_from_iterator(CORPUS, trainer)
        return json.loads(tokenizer.to_str())["model"]
    bytes_ = train(models.BPE(), trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()), None, pre_tokenizers.ByteLevel(add_prefix_space=False))
    words = train(models.BPE(), trainers.BpeTrainer(vocab_size=260, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, limit_alphabet=70),
        None, pre_tokenizers.Metaspace())
    # As Llama's vocabulary: with bytes, and with runs of spaces.
    vocab = dict(words["vocab"])
    for byte in range(256): vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(m) for m in words["merges"]]
    for a, b in [("▁", "▁"), ("▁▁", "▁▁"), ("▁▁", "▁"), ("a", "a"), ("aa", "aa"), ("aaaa", "aaaa")]:
        for part in (a, b, a + b):
            if part not in vocab: vocab[part] = len(vocab)
        merges.append((a, b))
    suffix = train(models.BPE(end_of_word_suffix="</w>"), trainers.BpeTrainer(vocab_size=220, special_tokens=["<unk>"], show_progress=False, end_of_word_suffix="</w>", limit_alphabet=60),
        normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer())
    prefix = train(models.BPE(continuing_subword_prefix="##"), trainers.BpeTrainer(vocab_size=220, special_tokens=["<unk>"], show_progress=False, continuing_subword_prefix="##", limit_alphabet=50),
        None, pre_tokenizers.WhitespaceSplit())
    unigram = train(models.Unigram(), trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"], show_progress=False),
        None, pre_tokenizers.Metaspace())
    piece = train(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False, limit_alphabet=70),
        normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())
    level = {w: i for i, w in enumerate(dict.fromkeys(["[UNK]", "a", "b", "x", "y", "test", "the", "Hello", "world", ",", "!", "-", "--", ".", "it", "'", "s", "1", "12", "1234", " ", "日", "日本語", "abc", "ab", "c", "def", "hello", "Hell", "o", "wor", "ld"]))}
    pairs = lambda merges: [list(m) for m in merges]
    vectors = [[t, round(s, 4)] for t, s in unigram["vocab"]]
    return {
        "bytes": {"type": "BPE", "vocab": bytes_["vocab"], "merges": pairs(bytes_["merges"])},
        "pieces": {"type": "BPE", "vocab": vocab, "merges": pairs(merges)},
        "suffix": {"type": "BPE", "vocab": suffix["vocab"], "merges": pairs(suffix["merges"]), "end_of_word_suffix": "</w>", "unk_token": "<unk>"},
        "prefix": {"type": "BPE", "vocab": prefix["vocab"], "merges": pairs(prefix["merges"]), "continuing_subword_prefix": "##", "unk_token": "<unk>"},
        "unigram": {"type": "Unigram", "unk_id": 0, "vocab": vectors},
        "piece": {"type": "WordPiece", "vocab": piece["vocab"], "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        "level": {"type": "WordLevel", "vocab": level, "unk_token": "[UNK]"},
    }


def token(content, id, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ALPHABET = {**BYTE_LEVEL, "use_regex": False}
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
CASES = {}


def case(name, model="bytes", pre=BYTE_LEVEL, normalizer=None, decoder=BYTE_LEVEL, added=None, config=None, files=None, model_keys=None, **more):
    """`model` names a vocabulary, and `model_keys` are put over it."""
    CASES[name] = {
        "model": model, "model_keys": model_keys or {}, "config": GENERIC | (config or {}), "files": files or {},
        "json": {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [token("<s>", 1), token("</s>", 2)] if added is None else added,
                 "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None, "decoder": decoder, **more},
    }


def seq(*steps): return {"type": "Sequence", "pretokenizers": list(steps)}
def norms(*steps): return {"type": "Sequence", "normalizers": list(steps)}
def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern if isinstance(pattern, dict) else {"Regex": pattern}, "behavior": behavior, "invert": invert}
def metaspace(scheme="always", split=True): return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def charsmap(pairs):
    """A precompiled map of SentencePiece, as small a double array as is right: units of Darts."""
    keys = sorted((k.encode(), v.encode()) for k, v in pairs.items())
    text, values = b"", {}
    for k, v in keys:
        values[k] = len(text); text += v + b"\0"
    units = [0] * 4096
    used = {0}
    def build(prefix, node):
        children = sorted({k[len(prefix)] if len(k) > len(prefix) else 0 for k, _ in keys if k.startswith(prefix)})
        offset = 256
        while True:
            place = node ^ offset
            if all((place ^ c) not in used and (place ^ c) < 4096 and ((offset >> 8) << 8) == offset for c in children) and place != node: break
            offset += 256
        units[node] |= offset << 10 if offset < 1 << 21 else 0
        for c in children: used.add(place ^ c)
        for c in children:
            if c == 0:
                units[node] |= 1 << 8
                units[place] = (1 << 31) | values[prefix]
            else:
                units[place ^ c] |= c
                build(prefix + bytes([c]), place ^ c)
    build(b"", 0)
    last = max(used) + 1
    units = units[: (last + 255) // 256 * 256]
    return base64.b64encode(struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + text).decode()


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def cases():
    case("byte level")
    case("byte level, a space in front", pre={**BYTE_LEVEL, "add_prefix_space": True})
    case("byte level without words", pre=ALPHABET)
    case("byte level as a normalizer", pre=None, normalizer={"type": "ByteLevel"}, added=[token("<tok>", 9, normalized=True, special=False), token("é", 10, normalized=True, special=False)])
    case("byte level in the middle", pre=seq(ALPHABET, split("Ġ")))
    case("no pre-tokenizer", pre=None)
    case("no decoder", decoder=None)
    for behavior in BEHAVIORS:
        case(f"split on a text, {behavior}", pre=seq(split({"String": "-"}, behavior), ALPHABET))
        case(f"split on spaces, {behavior}", pre=seq(split(r"\s+", behavior), ALPHABET))
        case(f"split on spaces inverted, {behavior}", pre=seq(split(r"\s+", behavior, True), ALPHABET))
        case(f"punctuation, {behavior}", pre=seq({"type": "Punctuation", "behavior": behavior}, ALPHABET))
    case("split on nothing", pre=seq(split({"String": ""}), ALPHABET))
    case("split where nothing matches", pre=seq(split("x*", "MergedWithNext"), ALPHABET))
    case("split on brackets and dots", pre=seq(split({"String": "(a)"}), split({"String": "."}, "Removed"), ALPHABET))
    for name, regex in {
        "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        "cl100k, possessive": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "deepseek": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "words": r"\w+|[^\w\s]", "words in brackets": r"[\w]+", "no words": r"\W+", "word boundaries": r"\b", "no word boundaries": r"\B.",
        "lines": r"^.", "ends of lines": r"$", "start of text": r"\A.", "end of text": r".\z", "end of text or line": r".\Z", "dots": r"a.", "dots and lines": r"(?m)\s.", "hexadecimal": r"\h+", "not hexadecimal": r"\H+",
        "flags at the start": r"(?i)the|a|k|s", "extended": "(?x) t h e  # words\n | \\s", "groups": r"(a)(b)?|(?<name>c)", "atomic": r"(?>a+)a|b", "lookbehind": r"(?<=a)b|(?<!\s)t", "intersection": r"[a-z&&[^aeiou]]+",
        "posix": r"[[:alpha:]]+|[[:punct:]]", "posix digits and space": r"[[:digit:]]+|[[:space:]]|[[:upper:]]|[^[:lower:]]", "posix words": r"[[:word:]]+", "posix others": r"[[:alnum:]]|[[:cntrl:]]|[[:blank:]]|[[:xdigit:]]",
        "scripts": r"\p{Han}+|\p{Hiragana}|\p{Katakana}+|\p{Greek}+|\p{Cyrillic}", "negated": r"\P{L}+|\p{^N}", "numbers": r"\d+|\D", "lazy": r"a+?|\s{2,}?", "escapes": r"\x61|\u0062|\t|\n|\x{65e5}|\-", "newlines": r"\N+", "chinese": r"[一-龥぀-ゟ゠-ヿ]+", "alternatives of nothing": r"a|", "repeated": r"(?:ab|cd){1,2}", "astral": r"[𠀀-𪛖👍]",
    }.items():
        case(f"regex: {name}", pre=seq(split(regex), ALPHABET))
    case("digits", pre=seq({"type": "Digits", "individual_digits": False}, BYTE_LEVEL))
    case("digits, each", pre=seq({"type": "Digits", "individual_digits": True}, BYTE_LEVEL))
    case("punctuation as it is by default", pre=seq({"type": "Punctuation"}, ALPHABET))
    case("white space", model="level", pre={"type": "Whitespace"}, decoder=None, added=[])
    case("white space alone", model="level", pre={"type": "WhitespaceSplit"}, decoder=None, added=[])
    case("delimiter", model="level", pre={"type": "CharDelimiterSplit", "delimiter": "-"}, decoder=None, added=[])
    case("fixed length", model="level", pre={"type": "FixedLength", "length": 2}, decoder=None, added=[])
    case("fixed length as it is by default", model="level", pre={"type": "FixedLength"}, decoder=None, added=[])
    case("bert's words", model="level", pre={"type": "BertPreTokenizer"}, decoder=None, added=[])
    case("steps in steps", pre=seq(seq({"type": "WhitespaceSplit"}, seq({"type": "Punctuation"})), ALPHABET))
    for name, step in {
        "NFC": {"type": "NFC"}, "NFD": {"type": "NFD"}, "NFKC": {"type": "NFKC"}, "NFKD": {"type": "NFKD"}, "Lowercase": {"type": "Lowercase"}, "Nmt": {"type": "Nmt"},
        "StripAccents": norms({"type": "NFD"}, {"type": "StripAccents"}), "Strip": {"type": "Strip", "strip_left": True, "strip_right": True},
        "Strip left": {"type": "Strip", "strip_left": True, "strip_right": False}, "Strip right": {"type": "Strip", "strip_left": False, "strip_right": True},
        "Prepend": {"type": "Prepend", "prepend": "ab"}, "Replace a text": {"type": "Replace", "pattern": {"String": "a"}, "content": "$0$&b"},
        "Replace dots": {"type": "Replace", "pattern": {"String": "."}, "content": "x"}, "Replace an expression": {"type": "Replace", "pattern": {"Regex": r"(\s)+"}, "content": r"\1$1 "},
        "Replace by nothing": {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": ""},
        "Bert": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "Bert, cased": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False},
        "Bert, accents alone": {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": True, "lowercase": False},
        "Precompiled": {"type": "Precompiled", "precompiled_charsmap": charsmap({"ﬁ": "fi", "½": "1/2", "\u00a0": " ", "e\u0301": "é", "é": "É", "ab": "ba", "\t": " ", "日": "nichi", "\u200b": "", "\r\n": "\n", "q": ""})},
    }.items():
        case(f"normalizer: {name}", normalizer=step)
    # SentencePiece's, as a BPE model.
    keys = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    pieces = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    llama = norms({"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    sp = dict(model="pieces", pre=None, normalizer=llama, decoder=pieces)
    case("pieces", **sp, model_keys=keys)
    case("pieces without bytes", **sp, model_keys={**keys, "byte_fallback": False})
    case("pieces, unknown ones apart", **sp, model_keys={"unk_token": "<unk>"})
    case("pieces, unknown ones left out", **sp)
    case("pieces, an unknown token that is none", **sp, model_keys={"unk_token": "<none>"})
    case("pieces, whole ones first", **sp, model_keys={**keys, "ignore_merges": True})
    case("merges as text", **sp, model_keys={**keys, "merges": "text"})
    for scheme in ["always", "first", "never"]:
        for cuts in [True, False]:
            case(f"metaspace {scheme}, {'cut' if cuts else 'whole'}", model="pieces", pre=metaspace(scheme, cuts), decoder=metaspace(scheme, cuts), model_keys=keys)
    first = metaspace("first")
    case("metaspace first after a strip", model="pieces", pre=first, normalizer={"type": "Strip", "strip_left": True, "strip_right": True}, decoder=first, model_keys=keys)
    case("metaspace first after words", model="pieces", pre=seq({"type": "WhitespaceSplit"}, first), decoder=first, model_keys=keys)
    case("metaspace always after words", model="pieces", pre=seq({"type": "WhitespaceSplit"}, metaspace()), decoder=first, model_keys=keys)
    case("metaspace first after letters", model="pieces", pre=seq(split("[a-z]"), first), normalizer={"type": "NFKD"}, decoder=first, model_keys=keys)
    case("metaspace first after a prefix", model="pieces", pre=seq(split("a", "MergedWithNext"), first), normalizer={"type": "Prepend", "prepend": "aa"}, decoder=first, model_keys=keys)
    case("metaspace first after a replacement", model="pieces", pre=seq(split("b"), first), normalizer={"type": "Replace", "pattern": {"Regex": "^[a-zA-Z ]"}, "content": "bbb"}, decoder=first, model_keys=keys)
    case("metaspace first, normalised tokens", model="pieces", pre=first, normalizer={"type": "Lowercase"}, decoder=first, model_keys=keys, added=[token("<Tok>", 1, normalized=True), token("<s>", 1)])
    case("metaspace with another sign", model="level", pre={"type": "Metaspace", "replacement": "_", "add_prefix_space": True}, decoder={"type": "Metaspace", "replacement": "_", "add_prefix_space": True}, added=[])
    case("unigram", model="unigram", pre=metaspace(), decoder=metaspace())
    case("unigram, whole", model="unigram", pre=metaspace("always", False), decoder=metaspace())
    case("unigram without unknown", model="unigram", pre=metaspace(), decoder=metaspace(), model_keys={"unk_id": None})
    case("unigram with bytes", model="unigram", pre=metaspace(), decoder=pieces, model_keys={"byte_fallback": True, "vocab": "bytes"})
    case("unigram after Precompiled", model="unigram", pre=metaspace("first"), decoder=metaspace("first"), normalizer=norms({"type": "Precompiled", "precompiled_charsmap": charsmap({"ﬁ": "fi", "\u00a0": " ", "\n": " ", "\t": " "})}, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}))
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    marks = [token("[UNK]", 0), token("[CLS]", 1), token("[SEP]", 2)]
    word_pieces = dict(model="piece", pre={"type": "BertPreTokenizer"}, normalizer=bert, added=marks)
    case("word pieces", **word_pieces, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True})
    case("word pieces, not cleaned", **word_pieces, decoder={"type": "WordPiece", "prefix": "##", "cleanup": False})
    case("word pieces, cleaned by transformers", **word_pieces, decoder={"type": "WordPiece", "prefix": "##", "cleanup": False}, config={"clean_up_tokenization_spaces": True})
    case("word pieces of short words", **word_pieces, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}, model_keys={"max_input_chars_per_word": 4})
    case("words without an unknown one", model="level", pre={"type": "Whitespace"}, decoder=None, added=[], model_keys={"unk_token": "none"})
    case("ends of words", model="suffix", pre={"type": "BertPreTokenizer"}, normalizer={"type": "Lowercase"}, decoder={"type": "BPEDecoder", "suffix": "</w>"}, added=[])
    case("prefixes of parts", model="prefix", pre={"type": "WhitespaceSplit"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": False}, added=[])
    case("prefixes of parts, with fused unknown ones", model="prefix", pre={"type": "WhitespaceSplit"}, decoder=None, added=[], model_keys={"fuse_unk": True})
    case("decoder: ctc", model="level", pre={"type": "Whitespace"}, decoder={"type": "CTC", "pad_token": "a", "word_delimiter_token": "-", "cleanup": True}, added=[])
    case("decoder: ctc, not cleaned", model="level", pre={"type": "Whitespace"}, decoder={"type": "CTC", "pad_token": "a", "word_delimiter_token": "-", "cleanup": False}, added=[])
    case("decoder: strip", model="level", pre={"type": "Whitespace"}, decoder={"type": "Strip", "content": "o", "start": 2, "stop": 1}, added=[])
    case("decoder: replace nothing", model="level", pre={"type": "Whitespace"}, decoder={"type": "Replace", "pattern": {"String": ""}, "content": "-"}, added=[])
    case("cleaned spaces of a BPE model", config={"clean_up_tokenization_spaces": True})
    case("cleaned spaces of a BPE model, in earnest", config={"clean_up_tokenization_spaces": True, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True})
    # Added tokens.
    for flag in ["single_word", "lstrip", "rstrip", "normalized"]:
        for special in [True, False]:
            case(f"added token, {flag}{', special' if special else ''}", added=[token("<s>", 1), token("</s>", 2), token("<tok>", 420, special=special, **{flag: True})], normalizer={"type": "Lowercase"})
    case("added tokens that overlap", added=[token("<s>", 1), token("<s>x", 420), token("</s>", 421), token("s>", 422), token("  ", 423, special=False), token(" ", 424, rstrip=True, lstrip=True)])
    case("added tokens that strip both", added=[token("<s>", 1, lstrip=True, rstrip=True), token("<tok>", 420, rstrip=True), token("</s>", 2, lstrip=True)])
    case("normalised tokens under Prepend", **sp, model_keys=keys, added=[token("<s>", 1, normalized=True), token("<tok>", 9, normalized=True, special=False)])
    case("ids of the file that are not so", added=[token("<s>", 7), token("<new>", 9000), token("<tok>", 430)])
    case("a token of the model among the added", added=[token("the", 5, special=False), token("Ġ", 6)])
    # Files of transformers.
    conf = lambda **k: dict(config=k)
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    tok = {**flags, "content": "<tok>"}
    case("configuration: added_tokens_decoder", **conf(added_tokens_decoder={"420": tok}))
    case("configuration: flags win", added=[token("<s>", 1), token("<tok>", 420)], **conf(added_tokens_decoder={"420": {**tok, "rstrip": True, "lstrip": True, "special": False}}))
    case("configuration: order of ids", **conf(added_tokens_decoder={"500": {**tok, "content": "<b>"}, "499": tok, "77": {**tok, "content": "x"}}))
    case("configuration: additional_special_tokens", **conf(additional_special_tokens=["<tok>", "<Tok>"]))
    case("configuration: additional and extra", **conf(additional_special_tokens=["<tok>"], extra_special_tokens=["<Tok>"]))
    case("configuration: extra as objects", **conf(extra_special_tokens=[{"__type": "AddedToken", **tok, "rstrip": True}]))
    case("configuration: extra with names", **conf(extra_special_tokens={"image_token": "<tok>"}))
    case("configuration: model_specific_special_tokens", **conf(model_specific_special_tokens={"image_token": "<tok>"}))
    case("configuration: a token with a name of its own", **conf(image_token="<tok>", model_specific_special_tokens={"a_token": "<Tok>"}))
    case("configuration: a token object with a name of its own", **conf(image_token={"__type": "AddedToken", **tok}, added_tokens_decoder={}))
    case("configuration: named tokens that are none", **conf(bos_token="<tok>", pad_token="[PAD]", eos_token={"__type": "AddedToken", **tok, "content": "<Tok>", "rstrip": True}))
    case("configuration: named token of the model", **conf(bos_token="the", unk_token="a"))
    case("configuration: split_special_tokens", **conf(split_special_tokens=True))
    case("configuration: nulls", **conf(extra_special_tokens=None, additional_special_tokens=None, bos_token=None))
    case("configuration: added tokens not special but named", added=[token("<tok>", 420, special=False, normalized=True)], normalizer={"type": "Lowercase"}, **conf(bos_token="<tok>"))
    case("old files: special_tokens_map.json", files={"special_tokens_map.json": {"bos_token": {**{k: v for k, v in tok.items() if k != "special"}, "lstrip": True}, "eos_token": "</s>", "additional_special_tokens": ["<Tok>"]}})
    case("old files: a map that is not read", files={"special_tokens_map.json": {"bos_token": "<tok>"}}, **conf(added_tokens_decoder={}))
    case("old files: added_tokens.json", files={"added_tokens.json": {"<tok>": 421, "<Tok>": 420}}, normalizer={"type": "Lowercase"}, **conf(pad_token="<Tok>"))
    case("old files: extra tokens in the map", files={"special_tokens_map.json": {"extra_special_tokens": ["<tok>", {**tok, "content": "<Tok>"}]}}, **conf(extra_special_tokens=["<x>"]))
    case("stored truncation and padding", truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
         padding={"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"})
    post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    case("a template that adds tokens", post_processor=post)
    # Classes of transformers that make the tokenizer anew.
    for name, keys_ in {"GPT2Tokenizer": {"bos_token": "<s>", "unk_token": "<unk>"}, "GPT2TokenizerFast": {"add_prefix_space": True}, "Qwen2Tokenizer": {"added_tokens_decoder": {"420": {**tok, "rstrip": True, "normalized": True}}, "bos_token": "<tok>"}, "GPTNeoXTokenizer": {}}.items():
        case(f"class {name}", pre=seq({"type": "Digits", "individual_digits": True}, BYTE_LEVEL), config={"tokenizer_class": name, **keys_}, added=[token("<s>", 1), token("</s>", 2), token("<x>", 420)])
    for name, keys_ in {"": {}, ", legacy": {"legacy": True}, ", no space": {"add_prefix_space": False}, ", its tokens": {"unk_token": "<unk>", "bos_token": "<s>", "added_tokens_decoder": {"1": {**tok, "content": "<s>"}}}}.items():
        case(f"class LlamaTokenizer{name}", **sp, model_keys=keys, config={"tokenizer_class": "LlamaTokenizer", **keys_})
    case("class GemmaTokenizer", **sp, model_keys=keys, config={"tokenizer_class": "GemmaTokenizer"})
    case("a model of mistral with LlamaTokenizer", **sp, model_keys=keys, config={"tokenizer_class": "LlamaTokenizer"}, files={"config.json": {"model_type": "mistral"}})
    case("a model of llama with LlamaTokenizerFast", **sp, model_keys=keys, config={"tokenizer_class": "LlamaTokenizerFast"}, files={"config.json": {"model_type": "llama"}})
    case("a class that is not known", config={"tokenizer_class": "SomeTokenizer"})
    case("no class", config={"tokenizer_class": None})


def written(definition, vocabularies):
    model = json.loads(json.dumps(vocabularies[definition["model"]])) | definition["model_keys"]
    if model.get("merges") == "text": model["merges"] = [" ".join(m) for m in vocabularies[definition["model"]]["merges"]]
    if model.get("vocab") == "bytes": model["vocab"] = vocabularies["unigram"]["vocab"] + [[f"<0x{b:02X}>", -12.0] for b in range(256)]
    return {**definition["json"], "model": model}


def write(folder, definition, vocabularies):
    os.makedirs(folder, exist_ok=True)
    files = {"tokenizer.json": written(definition, vocabularies), "tokenizer_config.json": {k: v for k, v in definition["config"].items() if v is not None or k != "tokenizer_class"}, **definition["files"]}
    for name, content in files.items():
        with open(os.path.join(folder, name), "w") as file: json.dump(content, file)


def smaller(case):
    """Without what is the same in most; the test puts it back."""
    parts = {key: value for key, value in case["json"].items() if value is not None and not (key == "version" or
             (key in ("pre_tokenizer", "decoder") and value == BYTE_LEVEL) or (key == "added_tokens" and value == [token("<s>", 1), token("</s>", 2)]))}
    for key in ("pre_tokenizer", "decoder"):
        if case["json"][key] is None: parts[key] = None
    case = {**case, "json": parts, "config": {key: value for key, value in case["config"].items() if (key, value) not in GENERIC.items()}}
    return {key: value for key, value in case.items() if value not in ({}, None) and not (isinstance(value, list) and all(item == 0 for item in value))}


def attempt(body):
    try: return body()
    except BaseException: return None


def main():
    vocab = vocabularies()
    cases()
    result = []
    for name, definition in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(folder, definition, vocab)
            try: tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            except BaseException as error:
                print("refused:", name, repr(error)[:200])
                continue
            ids = [attempt(lambda: tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
            # A text that comes back as it is stands as 0.
            as_it_is = lambda text, of: 0 if text == of else text
            decode = lambda skip: [None if i is None else attempt(lambda: tokenizer.decode(i, skip_special_tokens=skip)) for i in ids]
            plain, skipped = decode(False), decode(True)
            result.append({"name": name, **definition, "tokens": [[tokenizer.bos_token, tokenizer.bos_token_id], [tokenizer.eos_token, tokenizer.eos_token_id]],
                           "ids": [None if i is None else " ".join(map(str, i)) for i in ids],
                           "decoded": [as_it_is(p, t) for p, t in zip(plain, TEXTS)], "skipped": [as_it_is(s, p) for s, p in zip(skipped, plain)]})
        if len(sys.argv) > 1: write(os.path.join(sys.argv[1], name.replace(" ", "_").replace("/", "_")), definition, vocab)
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(HERE, "vocabularies.json"), "w") as file: file.write(dump(vocab))
    with open(os.path.join(HERE, "tokenizers.json"), "w") as file:
        file.write('{"usual":' + dump({"json": {"version": "1.0", "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL, "added_tokens": [token("<s>", 1), token("</s>", 2)]}, "config": GENERIC}) + ',"texts":' + dump(TEXTS) + ',"cases":[\n' + ",\n".join(map(dump, map(smaller, result))) + "\n]}\n")


main()
