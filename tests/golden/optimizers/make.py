"""Writes adamw_8bit.json and lion_8bit.json beside it: moments in bytes of bitsandbytes' AdamW8bit and Lion8bit over three updates.

    pip install torch==2.13.0 bitsandbytes==0.50.2
    python tests/golden/optimizers/make.py

The optimizers are its own, on the processor; bytes are looked up by its own default implementation (the nearest, as its CUDA kernels
do), since its processor library has a table of 65,536 values, by which 0 becomes 7.75e-6.
"""

import base64
import json
import os

import numpy as np
import torch

import bitsandbytes as bnb
import bitsandbytes.backends.cpu.ops as cpu
import bitsandbytes.functional as F

ROWS, COLUMNS, STEPS = 68, 64, 3  # 17 blocks of 256
OPTIONS = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}


def nearest(A, code, absmax_out, out_uint8, blocksize):
    """The lines of bitsandbytes/backends/cpu/ops.py for other dtypes than its library's."""
    blocks = A.reshape(-1, blocksize)
    absmax_out.copy_(blocks.abs().max(dim=-1)[0])
    scaled = torch.clamp(blocks * (1 / absmax_out.view(-1, 1)), -1, 1).reshape(-1)
    out_uint8.copy_(torch.argmin((scaled.unsqueeze(-1) - code).abs(), dim=-1).to(torch.uint8).reshape(A.shape))


cpu._quant_blockwise_fp32_direct = nearest


def numbers(salt, smallest):
    """From -0.5 to 0.5, times powers of ten down to 10^-smallest: what JavaScript computes too, to the bit."""
    i = np.arange(ROWS * COLUMNS, dtype=np.uint64)
    hashed = (i * np.uint64(2654435761) + np.uint64(salt) * np.uint64(2246822519)) % np.uint64(2**32)
    values = hashed.astype(np.float64) / 2.0**32 - 0.5
    return torch.tensor((values / 10.0 ** (i % np.uint64(smallest + 1))).astype(np.float32)).reshape(ROWS, COLUMNS)


def text(tensor):
    return base64.b64encode(np.ascontiguousarray(tensor.numpy()).tobytes()).decode()


def make(name, optimizer_of, states):
    weights = torch.nn.Parameter(numbers(0, 0))
    optimizer = optimizer_of([weights])
    steps = []
    for step in range(1, STEPS + 1):
        weights.grad = numbers(step, 4)
        optimizer.step()
        state = optimizer.state[weights]
        steps.append({key: text(state[key]) for key in states})
    golden = {
        "rows": ROWS,
        "columns": COLUMNS,
        "maps": [text(F.create_dynamic_map(signed)) for signed in (True, False)],
        "steps": steps,
        "weights": text(weights.detach()),
    }
    with open(os.path.join(os.path.dirname(__file__), f"{name}.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


make("adamw_8bit", lambda weights: bnb.optim.AdamW8bit(weights, eps=1e-6, **OPTIONS), ("state1", "state2", "absmax1", "absmax2"))
make("lion_8bit", lambda weights: bnb.optim.Lion8bit(weights, **OPTIONS), ("state1", "absmax1"))
