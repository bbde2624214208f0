"""What the `gguf` package (0.19.0, of llama.cpp) makes of models of this repository: names, shapes, types and hashes of tensors,
and metadata (long lists as count and hash). From the project's root: PYTHON tests/golden/gguf/make.py > tests/golden/gguf/golden.json"""
import json
from hashlib import sha256
import gguf, numpy, torch
from gguf.quants import quantize
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

TYPES = gguf.GGMLQuantizationType
FILES = dict(f32=(TYPES.F32, 0), f16=(TYPES.F16, 1), bf16=(TYPES.BF16, 32), q8_0=(TYPES.Q8_0, 7))
ARCHITECTURES = dict(llama=gguf.MODEL_ARCH.LLAMA, gemma=gguf.MODEL_ARCH.GEMMA, gpt_neox=gguf.MODEL_ARCH.GPTNEOX)


def interleaved(rows, heads):
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def apart(rows, heads):
    """[head, query/key/value, ...] to [query/key/value, head, ...]."""
    parts = rows.reshape(heads, 3, rows.shape[0] // heads // 3, *rows.shape[1:])
    return torch.cat([parts[:, i].reshape(-1, *rows.shape[1:]) for i in range(3)])


def tensors(folder, config, arch, wanted):
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, rows in sorted(load_file(f"{folder}/model.safetensors").items()):
        rows, ours = rows.float(), names.get_name(name, try_suffixes=(".weight", ".bias"))
        if arch == gguf.MODEL_ARCH.LLAMA and "q_proj" in name:
            rows = interleaved(rows, config.num_attention_heads)
        if arch == gguf.MODEL_ARCH.LLAMA and "k_proj" in name:
            rows = interleaved(rows, config.num_key_value_heads)
        if "query_key_value" in name:
            rows = apart(rows, config.num_attention_heads)
        if arch == gguf.MODEL_ARCH.GEMMA and name.endswith("norm.weight"):
            rows = rows + 1
        kind = TYPES.F32 if rows.dim() < 2 or ours.endswith("_norm.weight") else wanted
        if rows.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = TYPES.F16
        data = numpy.ascontiguousarray(quantize(numpy.ascontiguousarray(rows.numpy()), kind))
        yield ours, [list(rows.shape), kind.name, sha256(data.tobytes()).hexdigest()[:16]]


def listed(values):
    """Long lists as their length and hash."""
    return [len(values), sha256("\0".join(str(value) for value in values).encode()).hexdigest()]


def metadata(folder, config, arch, file_type):
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_file_type(file_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = {i: text for text, i in tokenizer.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    added = tokenizer.added_tokens_decoder
    kinds = [gguf.TokenType.CONTROL if i in added else gguf.TokenType.NORMAL for i in range(config.vocab_size)]
    special = gguf.SpecialVocab(folder, load_merges=True)
    special.chat_template = tokenizer.chat_template
    special.add_to_gguf(writer, quiet=True)
    found = {key: value.value for key, value in writer.kv_data[0].items()}
    found["tokenizer.ggml.tokens"] = listed([texts[i] for i in range(config.vocab_size)])
    found["tokenizer.ggml.token_type"] = listed([int(kind) for kind in kinds])
    found["tokenizer.ggml.merges"] = listed(found["tokenizer.ggml.merges"])
    return found


# gguf takes tokens of config.json too, which name what the tokenizer has.
CASES = [("tests/golden/llama/untied", kind) for kind in FILES]
CASES += [("configs/tiny/model", "q8_0"), ("tests/golden/models/gemma", "f32"), ("tests/golden/models/gpt_neox", "f32")]
golden = []
for folder, kind in CASES:
    config = AutoConfig.from_pretrained(folder)
    arch = ARCHITECTURES[config.model_type]
    quantized, number = FILES[kind]
    golden.append(dict(folder=folder, type=kind, tensors=dict(tensors(folder, config, arch, quantized))))
    if config.model_type == "llama":
        golden[-1]["metadata"] = metadata(folder, config, arch, number)
# Numbers of all sizes, halves of the step among them, and a block of zeros.
torch.manual_seed(0)
numbers = torch.cat([torch.randn(96) * torch.logspace(-6, 3, 96), torch.arange(-63.5, 64, 2)[:31], torch.tensor([127.0]), torch.zeros(32)])
blocks = quantize(numbers.numpy(), TYPES.Q8_0)
lines = ",\n".join(json.dumps(file) for file in golden)
print(f'{{"files": [\n{lines}\n],\n"q8_0": {json.dumps(dict(numbers=numbers.tolist(), bytes=blocks.tobytes().hex()))}}}')
