"""What transformers 5.17 makes of one or two keys of config.json: `python make.py > keys.json`. A case a line: `[keys, result]`, null where it refuses the file
or cannot run a small model of it."""
import json, os, tempfile
import torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
SMALL = dict(vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4)
LLAMA3 = dict(rope_type="llama3", factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0)
NULL = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "hidden_act", "rope_theta", "rope_scaling", "rope_parameters", "pad_token_id",
        "sliding_window", "attention_bias", "mlp_bias", "dtype", "torch_dtype", "is_causal", "pretraining_tp", "layer_types", "architectures",
        "quantization_config", "partial_rotary_factor", "per_layer_config", "transformers_weights", "original_max_position_embeddings"]
CASES = [{}, *({key: None} for key in NULL),
         *({"hidden_act": act} for act in ["silu", "swish", "gelu", "gelu_pytorch_tanh", "relu2", "laplace", "SiLU", 1]),
         *({"pad_token_id": token} for token in [-31, -30, -1, 0, 29, 30, [1], 1.5]),
         *({"num_key_value_heads": heads} for heads in [1, 2]), {"head_dim": 6}, {"hidden_size": 18}, {"hidden_size": 18, "head_dim": 4},
         {"rope_theta": 9.0}, {"rope_theta": 10000}, {"rope_theta": "10000"},
         *({"rope_scaling": scaling} for scaling in [
             {}, LLAMA3, {**LLAMA3, "original_max_position_embeddings": 64}, {**LLAMA3, "original_max_position_embeddings": None},
             {**LLAMA3, "rope_theta": 7.0}, {"type": "default"}, {"type": "llama3", "rope_type": "default"}, {"rope_type": None}, {"rope_type": "linear", "factor": 2.0},
             {"rope_type": "x"}, {"rope_theta": None}]),
         {"rope_scaling": {"rope_theta": 3.0}, "rope_parameters": {"rope_theta": 4.0}}, {"rope_scaling": {}, "rope_parameters": {"rope_theta": 4.0}},
         {"rope_parameters": {"rope_theta": 7.0}, "rope_theta": 9.0}, {"rope_parameters": {}, "rope_theta": 9.0},
         {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32}, {"rope_scaling": LLAMA3, "original_max_position_embeddings": None},
         {"rope_scaling": LLAMA3, "max_position_embeddings": 128}, {"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 1.0},
         *({key: True} for key in ["attention_bias", "mlp_bias", "is_causal", "tie_word_embeddings", "rope_interleaved", "use_qk_norm"]),
         {"attention_dropout": 0.1}, {"attention_dropout": 0}, {"is_causal": False}, {"pretraining_tp": 2},
         *({"layer_types": types} for types in [["full_attention"], ["sliding_attention"], ["full_attention"] * 2, ["x"], "full_attention"]),
         *({"sliding_window": window} for window in [0, 8]), {"sliding_window": 8, "use_sliding_window": False},
         *({"use_sliding_window": True, **keys} for keys in [{}, {"max_window_layers": 0}, {"max_window_layers": 0, "sliding_window": 8}, {"sliding_window": None},
             {"layer_types": ["sliding_attention"]}, {"layer_types": ["full_attention"], "max_window_layers": 0}]), {"use_sliding_window": None}, {"max_window_layers": None},
         *({"tie_word_embeddings": tied} for tied in ["true", 1]), {"rms_norm_eps": 0.0}, {"rms_norm_eps": "1e-5"}, {"rms_norm_eps": 0.01},
         *({"dtype": dtype} for dtype in ["bfloat16", "half", "float64", "torch.bfloat16", "auto", 16]), {"torch_dtype": "float16"},
         {"dtype": "float32", "torch_dtype": "bfloat16"}, {"logits_soft_cap": 30.0, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 5.0},
         {"attention_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 2.0, "embedding_multiplier": 2.0},
         {"architectures": ["LlamaForSequenceClassification"]}, {"model_type": "LLaMA"}, {"per_layer_config": {"0": {"intermediate_size": 8}}},
         {"transformers_weights": "other.safetensors"}, {"hidden_dropout": 0.1, "resid_pdrop": 0.1}, {"num_local_experts": 4}]


# Of each class: the keys of its base model, and what it has of its own: attributes that count (NAME=ATTRIBUTE where it has another name for one), and more cases. An architecture is a line.
LLAMA = ["hidden_act", "rms_norm_eps", "num_attention_heads", "num_key_value_heads"]
PLAIN = ["hidden_act", "num_attention_heads"]
WINDOWS = [{"sliding_window": 8, "layer_types": ["sliding_attention"]}, {"sliding_window": None, "layer_types": ["full_attention"]}]
GEMMA2 = ["hidden_act=hidden_activation", *LLAMA[1:], "sliding_window", "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"]
GEMMA2_CASES = [*WINDOWS, {"hidden_activation": "relu"}, {"hidden_activation": None}, {"use_bidirectional_attention": None}, {"use_bidirectional_attention": False},
                *({key: value} for key in GEMMA2[-3:] for value in [7, 7.5, None]), {"hidden_size": 18, "head_dim": 8}]
COHERE = [LLAMA[0], "layer_norm_eps", *LLAMA[2:], "logit_scale"]
COHERE_CASES = [*({"logit_scale": scale} for scale in [2, None]), *({"layer_norm_eps": epsilon} for epsilon in [0.01, None])]
MODELS = [
    ({"model_type": "llama"}, LLAMA, []),
    ({"model_type": "mistral", "num_key_value_heads": 4}, [*LLAMA, "sliding_window"], []),
    ({"model_type": "qwen2", "num_key_value_heads": 4}, [*LLAMA, "sliding_window", "layer_types"], []),
    ({"model_type": "qwen3", "num_key_value_heads": 4}, [*LLAMA, "sliding_window", "layer_types"], []),
    ({"model_type": "seed_oss", "num_key_value_heads": 4, "head_dim": 4}, LLAMA,
     [{"attention_out_bias": True}, {"attention_out_bias": None}, {"residual_dropout": 0}, {"residual_dropout": None}]),
    ({"model_type": "ministral", "num_key_value_heads": 4, "head_dim": 4}, [*LLAMA, "sliding_window", "layer_types"], WINDOWS),
    ({"model_type": "smollm3", "num_key_value_heads": 4, "pad_token_id": 3}, [*LLAMA, "sliding_window", "layer_types", "no_rope_layers"],
     [*WINDOWS, *({"no_rope_layers": layers} for layers in [[0], [1], [0, 1], [], None, [True]]), *({"no_rope_layer_interval": n} for n in [0, 1, None]),
      {"use_sliding_window": True, "sliding_window": 8, "no_rope_layers": [0]}]),
    ({"model_type": "exaone4", "num_key_value_heads": 4}, [*LLAMA, "sliding_window", "layer_types"],
     [*WINDOWS, *({"sliding_window_pattern": pattern} for pattern in [0, 1, 2, "LG", None]), {"sliding_window_pattern": "LG", "layer_types": ["full_attention"]}]),
    ({"model_type": "olmo2"}, LLAMA, []),
    ({"model_type": "gemma", "num_key_value_heads": 4, "head_dim": 4}, LLAMA,
     [*({"use_bidirectional_attention": value} for value in [None, False]), {"hidden_act": "gelu", "hidden_activation": "relu"}]),
    ({"model_type": "gemma2", "num_key_value_heads": 4, "head_dim": 4}, GEMMA2, GEMMA2_CASES),
    ({"model_type": "gemma3_text", "num_key_value_heads": 4, "head_dim": 4, "layer_types": ["full_attention"]}, GEMMA2,
     [*GEMMA2_CASES, *({"sliding_window_pattern": pattern, "layer_types": None} for pattern in [0, 1, 2, "LG", None]),
      *({"rope_parameters": {"full_attention": set_}} for set_ in [{"rope_type": "default", "rope_theta": 7.0}, {"type": "linear", "factor": 2.0}, None]),
      {"rope_local_base_freq": 9.0}, {"rope_local_base_freq": 9.0, "layer_types": ["sliding_attention"]},
      {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 9.0}, {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "layer_types": ["sliding_attention"]},
      {"rope_parameters": {"sliding_attention": {"rope_theta": 7.0}}, "layer_types": ["sliding_attention"], "rope_local_base_freq": 9.0}]),
    ({"model_type": "vaultgemma", "num_key_value_heads": 4, "head_dim": 4}, GEMMA2, GEMMA2_CASES),
    ({"model_type": "helium", "num_key_value_heads": 4, "head_dim": 4}, LLAMA, []),
    ({"model_type": "cwm", "num_key_value_heads": 4, "head_dim": 4, "layer_types": ["sliding_attention"]}, [*LLAMA, "sliding_window", "layer_types"], [*WINDOWS, {"layer_types": None}]),
    ({"model_type": "granite"}, [*LLAMA, "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"],
     [*({f"{of}_multiplier": value} for of in ["embedding", "attention", "residual"] for value in [3, None, "1"]), {"logits_scaling": 4}, {"logits_scaling": None}]),
    ({"model_type": "cohere"}, COHERE, [{"use_qk_norm": None}, *COHERE_CASES]),
    ({"model_type": "cohere2", "layer_types": ["sliding_attention"]}, [*COHERE, "sliding_window", "layer_types"],
     [*WINDOWS, *COHERE_CASES, *({"sliding_window_pattern": pattern, "layer_types": None} for pattern in [0, 1, 2, "LG", None])]),
    ({"model_type": "olmo3", "layer_types": ["full_attention"]}, [*LLAMA, "sliding_window", "layer_types"],
     [*WINDOWS, *({"rope_parameters": {"full_attention": set_}} for set_ in [{"rope_type": "default", "rope_theta": 7.0}, {"rope_theta": 7.0}, {"type": "linear", "factor": 2.0}, None]),
      {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "layer_types": ["sliding_attention"], "rope_theta": 9.0},
      {"rope_parameters": {"sliding_attention": {"rope_theta": 7.0}}, "layer_types": ["sliding_attention"]}]),
    ({"model_type": "hunyuan_v1_dense", "head_dim": 4}, LLAMA,
     [{"rope_scaling": {"type": "dynamic", "factor": 1.0, **keys}} for keys in [{"alpha": 1000.0}, {"alpha": 0}, {}, {"alpha": None}]]),
    ({"model_type": "ernie4_5", "num_key_value_heads": 4, "head_dim": 4}, LLAMA, [{"use_bias": True}, {"use_bias": None}]),
    ({"model_type": "glm4", "num_key_value_heads": 4, "head_dim": 4, "pad_token_id": 3}, LLAMA, [{"head_dim": 8, "partial_rotary_factor": 0.25}]),
    ({"model_type": "gpt_neox", "rotary_pct": 0.5}, [*PLAIN, "layer_norm_eps", "use_parallel_residual"],
     [*({key: False} for key in ["attention_bias", "use_parallel_residual"]), {"rotary_emb_base": 7.0}, {"rotary_pct": 1.0}, {"rotary_pct": None}, {"hidden_dropout": 0.1},
      {"rotary_emb_base": None}, {"rope_parameters": {"partial_rotary_factor": 1.0}}]),
    ({"model_type": "phi3", "pad_token_id": 3}, [*LLAMA, "sliding_window"],
     [*({"rope_scaling": {"type": type_, "long_factor": [2.0, 3.0], "short_factor": [1.0, 1.5], "original_max_position_embeddings": 32}, **keys}
        for type_ in ["su", "yarn", "longrope"] for keys in [{}, {"original_max_position_embeddings": 64}]),
      {"rope_scaling": {"type": "longrope", "long_factor": [2.0, 3.0], "short_factor": [1.0], "original_max_position_embeddings": 64}}, {"resid_pdrop": 0.1}, {"embd_pdrop": 0.1}]),
    ({"model_type": "phi"}, [*PLAIN, "num_key_value_heads", "layer_norm_eps"], [{"qk_layernorm": True}, {"head_dim": 8}, {"resid_pdrop": 0.1}, {"embd_pdrop": 0.1}]),
    ({"model_type": "starcoder2", "num_key_value_heads": 4}, [*PLAIN, "num_key_value_heads", "norm_epsilon", "sliding_window", "use_bias"],
     [{"use_bias": False}, {"use_bias": None}, {"residual_dropout": 0.1}, {"embedding_dropout": 0.1}]),
    ({"model_type": "stablelm", "num_key_value_heads": 4, "partial_rotary_factor": 0.5}, [*PLAIN, "num_key_value_heads", "layer_norm_eps", "use_parallel_residual"],
     [*({key: True} for key in ["use_qkv_bias", "qk_layernorm", "use_parallel_residual"]), {"qk_layernorm": True, "num_key_value_heads": 2}, {"hidden_dropout": 0.1}]),
    ({"model_type": "falcon", "ffn_hidden_size": 24}, ["num_attention_heads", "layer_norm_epsilon", "activation"],
     [*({key: value} for key in ["bias", "alibi", "multi_query", "parallel_attn", "new_decoder_architecture"] for value in [True, False, None]),
      *({"num_kv_heads": heads, **keys} for heads in [1, 2, None] for keys in [{}, {"multi_query": False}, {"new_decoder_architecture": True}]),
      *({"num_ln_in_parallel_attn": count, **keys} for count in [1, 2, None] for keys in [{}, {"parallel_attn": False}, {"new_decoder_architecture": True}]),
      {"new_decoder_architecture": True, "parallel_attn": False}, {"n_embed": 8}, {"n_embed": None}, {"ffn_hidden_size": None}, {"activation": "relu"}, {"hidden_dropout": 0.1}]),
    ({"model_type": "nemotron", "num_key_value_heads": 4}, [*PLAIN, "num_key_value_heads", "norm_eps"], []),
    ({"model_type": "persimmon"}, [*PLAIN, "layer_norm_eps"], [{"qk_layernorm": False}, {"qk_layernorm": None}, {"hidden_dropout": 0.1}]),
    ({"model_type": "jais2"}, [*PLAIN, "num_key_value_heads", "layer_norm_eps"], [{"attention_bias": False}, {"mlp_bias": False}]),
    ({"model_type": "arcee"}, LLAMA, []),
]


def result(config, attributes):
    """What counts of the model: names and shapes of its tensors, its frequencies, and attributes of its configuration; of what is dropped out, the most."""
    with tempfile.TemporaryDirectory() as folder:
        json.dump(config, open(os.path.join(folder, "config.json"), "w"))
        try:
            read = AutoConfig.from_pretrained(folder)
            model = AutoModelForCausalLM.from_config(read)
            with torch.no_grad():
                model(torch.arange(6)[None])
        except Exception:
            return None
    text = read.get_text_config()
    dropped = [getattr(m, "p" if isinstance(m, torch.nn.Dropout) else "attention_dropout", 0) for m in model.modules()]
    dropped = [p for p in dropped if not isinstance(p, torch.nn.Module)]
    frequencies = {name: buffer.tolist() for name, buffer in model.named_buffers() if name.endswith("inv_freq") and "original" not in name}
    return {
        "tensors": [f"{name} {list(parameter.shape)}".replace(" ", "") for name, parameter in sorted(model.named_parameters())],
        "pad": model.get_input_embeddings().padding_idx,
        "inv_freq": sorted({json.dumps(values): values for values in frequencies.values()}.values()),
        "dropout": max(dropped), "dtype": read.dtype and str(read.dtype).split(".")[1], "is_causal": getattr(text, "is_causal", True) is True,
        **{key.split("=")[0]: getattr(text, key.split("=")[-1]) for key in ["max_position_embeddings", "tie_word_embeddings", *attributes]},
    }


out = []
for base, attributes, cases in MODELS:
    usual = result({**SMALL, **base}, attributes)
    out.append([{**SMALL, **base}, usual])
    for keys in [*CASES[1:], *cases]:
        found = result({**SMALL, **base, **keys}, attributes)
        # Only what differs from the model without the keys.
        out.append([keys, found and {key: value for key, value in found.items() if value != usual[key]}])
print("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]")
