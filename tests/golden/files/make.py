"""Makes the golden files of this folder with safetensors 0.8.0, torch 2.13.0 and transformers 5.17.0:

  python tests/golden/files/make.py

reference.safetensors  tensors of several dtypes, written by the reference implementation of the format
rope.json              inverse frequencies, and cosines and sines at a few positions, of transformers' LlamaRotaryEmbedding
"""
import json, os
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

folder = os.path.dirname(os.path.abspath(__file__))
save_file({
    "counts": torch.tensor([-1, 2**40]),
    "weight": torch.tensor([[1.5, -0.0, 1e-45], [float("inf"), 3.4028235e38, 0.1]]),
    "scalar": torch.tensor(2.5),
    "half": torch.tensor([65504.0, 6e-8, -1.0], dtype=torch.float16),
    "brain": torch.tensor([[3.0], [1e-40], [float("-inf")]], dtype=torch.bfloat16),
    "ключ \"1\"": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
}, os.path.join(folder, "reference.safetensors"), metadata={"format": "pt"})

LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, low_freq_factor=1.0, high_freq_factor=4.0)
CASES = [
    dict(head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    dict(head_dim=64, rope_parameters=dict(LLAMA3, factor=32.0, original_max_position_embeddings=8192)),
    # Here a frequency changes in its last bit where a number divided by a tensor is rounded once, not twice.
    dict(head_dim=64, rope_parameters=dict(LLAMA3, factor=8.0, original_max_position_embeddings=256)),
]
POSITIONS = [0, 1, 100, 511, 4095]
golden = []
for case in CASES:
    config = LlamaConfig(hidden_size=4 * case["head_dim"], num_attention_heads=4, max_position_embeddings=131072, **case)
    rope = LlamaRotaryEmbedding(config)
    cos, sin = rope(torch.zeros(1), torch.tensor([POSITIONS]))
    half = case["head_dim"] // 2
    golden.append(dict(
        head_dim=case["head_dim"], rope_parameters=case["rope_parameters"], inv_freq=rope.inv_freq.tolist(),
        rows=[dict(position=p, cos=cos[0, i, :half].tolist(), sin=sin[0, i, :half].tolist())
              for i, p in enumerate(POSITIONS)]))
json.dump(golden, open(os.path.join(folder, "rope.json"), "w"), indent=1)
