"""Tiny random checkpoints, as transformers saves them, with biases and norms away from 0 and 1, so that leaving one out shows.

Run by make.sh; names after the folder: only those. The tokenizer is that of ../llama/untied. Head sizes, widths and vocabulary are
no multiples of 4, and each has what its architecture can have: windows, biases, caps, layers that differ.
"""
import shutil, sys
import torch, transformers as tr

here, names = sys.argv[1], sys.argv[2:]
COMMON = dict(vocab_size=303, hidden_size=36, intermediate_size=50, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
              max_position_embeddings=512, bos_token_id=0, eos_token_id=2, pad_token_id=3, initializer_range=0.1, tie_word_embeddings=True)
# Two layers: enough to tell right from wrong.
SMALL = {**COMMON, "hidden_size": 30, "intermediate_size": 34, "num_hidden_layers": 2}
FULL, SLIDING = "full_attention", "sliding_attention"
BOTH = dict(sliding_window=20, layer_types=[SLIDING, FULL])
ROPE = lambda **keys: {"rope_theta": 10000.0, **keys}
HALF = ROPE(rope_type="default", partial_rotary_factor=0.5)
MODELS = {
    "llama-biases": tr.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "qwen2": tr.Qwen2Config(**COMMON, use_sliding_window=True, sliding_window=20, max_window_layers=1),
    "qwen3": tr.Qwen3Config(**COMMON, head_dim=20, attention_bias=True),
    "llama-yarn": tr.LlamaConfig(**{**SMALL, "hidden_size": 24}, hidden_act="gelu", head_dim=10, rope_parameters=ROPE(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
    "ministral": tr.MinistralConfig(**SMALL, head_dim=10, **BOTH, rope_parameters=ROPE(rope_type="default")),
    "gemma": tr.GemmaConfig(**SMALL, head_dim=10),
    "gemma2": tr.Gemma2Config(**SMALL, head_dim=10, **BOTH, query_pre_attn_scalar=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3_text": tr.Gemma3TextConfig(**SMALL, head_dim=10, **BOTH, query_pre_attn_scalar=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "phi": tr.PhiConfig(**{**SMALL, "hidden_size": 36, "num_key_value_heads": 3, "tie_word_embeddings": False}, partial_rotary_factor=0.5),
    "phi3": tr.Phi3Config(**{**SMALL, "tie_word_embeddings": False}, sliding_window=20, original_max_position_embeddings=32, rope_parameters=ROPE(rope_type="longrope", short_factor=[1.0 + i / 8 for i in range(5)], long_factor=[2.0 + i / 4 for i in range(5)])),
    "gpt_neox": tr.GPTNeoXConfig(**{**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, "hidden_size": 36, "tie_word_embeddings": False}, rope_parameters=HALF),
    "gpt_neox-serial": tr.GPTNeoXConfig(**{**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, "hidden_size": 30}, use_parallel_residual=False, attention_bias=False, rope_parameters=ROPE(rope_type="default")),
    "exaone4": tr.Exaone4Config(**SMALL, head_dim=10, sliding_window_pattern="LG", **BOTH),
    "olmo2": tr.Olmo2Config(**SMALL),
    "olmo3": tr.Olmo3Config(**SMALL, **BOTH),
    "smollm3": tr.SmolLM3Config(**SMALL, no_rope_layers=[1, 0]),
    "granite": tr.GraniteConfig(**SMALL, attention_bias=True, mlp_bias=True, embedding_multiplier=3.0, logits_scaling=2.5, residual_multiplier=0.4, attention_multiplier=0.2),
    "cohere": tr.CohereConfig(**SMALL, use_qk_norm=True, logit_scale=0.5),
    "cohere2": tr.Cohere2Config(**SMALL, **BOTH, logit_scale=0.5),
    "glm4": tr.Glm4Config(**SMALL, head_dim=12, rope_parameters=HALF),
    "starcoder2": tr.Starcoder2Config(**SMALL, sliding_window=20),
    "stablelm": tr.StableLmConfig(**{**SMALL, "hidden_size": 36, "tie_word_embeddings": False}, use_qkv_bias=True, rope_parameters=HALF),
    "stablelm-parallel": tr.StableLmConfig(**{**SMALL, "hidden_size": 36}, qk_layernorm=True, use_parallel_residual=True, rope_parameters=HALF),
    "falcon": tr.FalconConfig(vocab_size=303, hidden_size=30, num_hidden_layers=2, num_attention_heads=3, multi_query=True, parallel_attn=True, bias=True, alibi=False, initializer_range=0.1, bos_token_id=0, eos_token_id=2),
    "falcon-new": tr.FalconConfig(vocab_size=303, hidden_size=24, ffn_hidden_size=50, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True, bias=False, alibi=False, initializer_range=0.1, bos_token_id=0, eos_token_id=2),
    "nemotron": tr.NemotronConfig(**{**SMALL, "hidden_size": 36, "tie_word_embeddings": False}, partial_rotary_factor=0.5),
    "hunyuan_v1_dense": tr.HunYuanDenseV1Config(**SMALL, head_dim=10),
    "ernie4_5": tr.Ernie4_5Config(**SMALL, head_dim=10, use_bias=True),
    "seed_oss": tr.SeedOssConfig(**{**SMALL, "tie_word_embeddings": False}, head_dim=10),
    "persimmon": tr.PersimmonConfig(**{**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, "hidden_size": 36}, rope_parameters=HALF),
    "jais2": tr.Jais2Config(**{**SMALL, "tie_word_embeddings": False}),
    "arcee": tr.ArceeConfig(**SMALL),
    "vaultgemma": tr.VaultGemmaConfig(**SMALL, head_dim=10, **BOTH, query_pre_attn_scalar=7, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "helium": tr.HeliumConfig(**SMALL, head_dim=10),
    "cwm": tr.CwmConfig(**SMALL, head_dim=10, **BOTH),
}
for seed, (name, config) in enumerate(MODELS.items()):
    if names and name not in names:
        continue
    torch.manual_seed(seed)
    model = tr.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # Cohere's norms of heads have two dimensions.
            if parameter.dim() == 1 or "_norm" in key:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
        model.tie_weights()
    model.save_pretrained(f"{here}/{name}")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(f"{here}/../llama/untied/{file}", f"{here}/{name}/{file}")
