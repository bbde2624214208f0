"""Makes rope_types.json of this folder with torch 2.13.0 and transformers 5.17.0:

  python tests/golden/files/make_rope_types.py

For each config.json: the inverse frequencies and the attention factor that the model's rotary embedding has for sequences of some
lengths, one at a time from the start ("forwards": a length each), by layer type where it has several.
"""
import json, os
import torch
import transformers
from transformers import AutoConfig
transformers.logging.set_verbosity_error()

LLAMA = dict(model_type="llama", hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=1)
LONG = dict(short_factor=[1.0, 1.05, 1.1, 1.3, 1.7, 2.0, 3.0, 4.5], long_factor=[1.0, 1.5, 2.0, 3.5, 7.0, 9.0, 20.0, 33.0])
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=512)
CASES = {
    "linear": dict(LLAMA, rope_scaling=dict(type="linear", factor=3.0)),
    "linear below 1": dict(LLAMA, rope_theta=500000.0, rope_scaling=dict(rope_type="linear", factor=0.7)),
    "dynamic": dict(LLAMA, max_position_embeddings=32, rope_scaling=dict(type="dynamic", factor=2.0)),
    "dynamic of an odd factor": dict(LLAMA, max_position_embeddings=48, rope_theta=20000.0, rope_scaling=dict(type="dynamic", factor=1.7)),
    "yarn": dict(LLAMA, rope_scaling=YARN),
    "yarn not truncated": dict(LLAMA, rope_scaling=dict(YARN, truncate=False, beta_fast=16, beta_slow=2)),
    "yarn with an attention factor": dict(LLAMA, rope_scaling=dict(YARN, attention_factor=0.8, beta_fast=0)),
    "yarn with two scales": dict(LLAMA, rope_scaling=dict(YARN, mscale=0.7, mscale_all_dim=1.2)),
    "yarn with one scale": dict(LLAMA, rope_scaling=dict(YARN, mscale=0.7)),
    "yarn whose factor is null": dict(LLAMA, max_position_embeddings=4096, rope_scaling=dict(YARN, factor=None)),
    "yarn without an original length": dict(LLAMA, rope_scaling=dict(rope_type="yarn", factor=4.0)),
    "yarn of a short context": dict(LLAMA, rope_scaling=dict(YARN, original_max_position_embeddings=4)),
    "llama3": dict(LLAMA, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=256)),
    "longrope": dict(LLAMA, max_position_embeddings=256, rope_scaling=dict(LONG, rope_type="longrope", original_max_position_embeddings=32)),
    "longrope with a factor": dict(LLAMA, max_position_embeddings=256, rope_scaling=dict(LONG, rope_type="longrope", factor=16.0, original_max_position_embeddings=32)),
    "longrope of a longer original": dict(LLAMA, max_position_embeddings=16, rope_scaling=dict(LONG, rope_type="longrope", original_max_position_embeddings=32)),
    "longrope with an attention factor": dict(LLAMA, rope_scaling=dict(LONG, rope_type="longrope", factor=4.0, attention_factor=1.19, original_max_position_embeddings=32)),
    "proportional": dict(LLAMA, rope_parameters=dict(rope_type="proportional", rope_theta=10000.0, factor=2.0, partial_rotary_factor=0.4)),
    "default, whose class rotates whole heads": dict(LLAMA, partial_rotary_factor=0.5),
    "phi3": dict(model_type="phi3", hidden_size=64, num_attention_heads=4, max_position_embeddings=256, original_max_position_embeddings=32, num_hidden_layers=1, pad_token_id=0, rope_scaling=dict(LONG, type="longrope")),
    "phi3 in part": dict(model_type="phi3", hidden_size=128, num_attention_heads=4, max_position_embeddings=256, partial_rotary_factor=0.5, num_hidden_layers=1, pad_token_id=0, rope_scaling=dict(LONG, type="yarn")),
    "gpt_neox": dict(model_type="gpt_neox", hidden_size=128, num_attention_heads=2, rotary_pct=0.5, rotary_emb_base=5000, num_hidden_layers=1),
    "gpt_neox by default": dict(model_type="gpt_neox", hidden_size=128, num_attention_heads=2, rope_theta=7.0, num_hidden_layers=1),
    "gpt_neox linear": dict(model_type="gpt_neox", hidden_size=128, num_attention_heads=2, num_hidden_layers=1, rope_scaling=dict(type="linear", factor=2.0)),
    "phi": dict(model_type="phi", hidden_size=160, num_attention_heads=2, partial_rotary_factor=0.4, num_hidden_layers=1),
    "phi by default": dict(model_type="phi", hidden_size=160, num_attention_heads=2, num_hidden_layers=1, rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=9000.0), max_position_embeddings=32),
    "gemma3_text": dict(model_type="gemma3_text", hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=2, sliding_window_pattern=2, rope_theta=500000.0, rope_local_base_freq=20000.0, rope_scaling=dict(rope_type="linear", factor=8.0)),
    "gemma3_text by default": dict(model_type="gemma3_text", hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"]),
    "gemma3_text, new": dict(model_type="gemma3_text", hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], rope_theta=3.0, rope_parameters=dict(full_attention=dict(rope_type="linear", factor=8.0, rope_theta=77.0), sliding_attention=dict(rope_type="default", rope_theta=33.0))),
    "olmo3": dict(model_type="olmo3", hidden_size=64, num_attention_heads=4, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], rope_theta=20000.0, rope_scaling=dict(YARN, truncate=False), pad_token_id=0),
    "hunyuan with alpha": dict(model_type="hunyuan_v1_dense", hidden_size=64, num_attention_heads=4, head_dim=16, num_hidden_layers=1, max_position_embeddings=32, rope_scaling=dict(type="dynamic", factor=1.0, alpha=50.0), pad_token_id=0),
}
LENGTHS = [8, 32, 33, 100]


def rotary(config):
    model = transformers.AutoModel.from_config(config)
    found = [m for m in model.modules() if type(m).__name__.endswith("RotaryEmbedding")]
    assert len(found) in (1, 2), found
    return found


def at(case, length):
    config = AutoConfig.for_model(**case)
    out = {}
    kinds = ["full_attention", "sliding_attention"] if case["model_type"] in ("gemma3_text", "olmo3") else [None]
    rope = rotary(config)[0]
    for kind in kinds:
        positions = torch.arange(length)[None]
        x = torch.zeros(1)
        cos, _ = rope(x, positions, kind) if kind else rope(x, positions)
        prefix = f"{kind}_" if kind else ""
        inv = getattr(rope, f"{prefix}inv_freq")
        scale = getattr(rope, f"{prefix}attention_scaling", None) or rope.attention_scaling
        assert abs(cos[0, 0, 0].item() - scale) < 1e-6
        out[kind or "all"] = dict(inv_freq=inv.tolist(), attention_factor=float(scale))
    return out


golden = []
for name, case in CASES.items():
    case = {"vocab_size": 50, "intermediate_size": 8, **case}
    results = [at(case, length) for length in LENGTHS]
    same = all(r == results[0] for r in results)
    golden.append(dict(name=name, config=case, forwards={str(n): r for n, r in zip(LENGTHS, results)} if not same else {"8": results[0]}))
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rope_types.json")
json.dump(golden, open(path, "w"), separators=(",", ":"))
open(path, "a").write("\n")
