"""Writes lion_run.json and lion_run.safetensors beside it: the log of eight steps of tests/golden/llama/run.yaml on `untied` by golden.py of the
reference folder, with bitsandbytes' Lion32bit in place of AdamW, and some of the weights after them. Of each of these the elements whose sign
was next to 0 in a step are NaN: which way such a weight goes is rounding's.

    pip install torch==2.13.0 transformers==5.17.0 bitsandbytes==0.50.2
    python tests/golden/optimizers/run.py REFERENCE_FOLDER
"""
import json
import os
import sys
import tempfile

import bitsandbytes as bnb
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, sys.argv[1])
import golden

HERE = "tests/golden/optimizers"
WEIGHTS = ["model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"]
NEAR = 1e-4  # of the largest magnitude of the tensor's mean of moment and gradient


class Lion(bnb.optim.Lion32bit):
    """As golden.py calls AdamW; notes what its signs are taken of."""

    def __init__(self, groups, lr, betas, eps):
        super().__init__(groups, lr=lr, betas=betas)
        self.near = {}

    def update_step(self, group, p, gindex, pindex):
        beta = group["betas"][0]
        mean = beta * self.state[p]["state1"] + (1 - beta) * p.grad
        near = (mean != 0) & (mean.abs() < NEAR * mean.abs().max())
        self.near[p] = self.near.get(p, False) | near
        super().update_step(group, p, gindex, pindex)
        made.append(self)


made = []
torch.optim.AdamW = Lion
with tempfile.TemporaryDirectory() as folder:
    golden.main(["tests/golden/llama/run.yaml", "--out", folder, "--model_name_or_path=tests/golden/llama/untied",
                 "--learning_rate=2.0e-4", "--adam_beta2=0.99", "--weight_decay=0.1", "--max_steps=8"])
    log = json.load(open(f"{folder}/golden.json"))["log"]
    weights = load_file(f"{folder}/model/model.safetensors")
json.dump(log, open(f"{HERE}/lion_run.json", "w"), indent=1)
# The model's parameters are in the order of its names; a group has its own part of them.
by_bytes = {p.detach().numpy().tobytes(): near for p, near in made[-1].near.items()}
kept = {}
for name in WEIGHTS:
    near = by_bytes[weights[name].numpy().tobytes()]
    kept[name] = weights[name].clone()
    kept[name][near] = float("nan")
    print(name, int(near.sum()), "of", near.numel(), "are next to 0")
save_file(kept, f"{HERE}/lion_run.safetensors")
