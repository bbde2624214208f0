"""PyTorch's figures on the processor, two threads: the products and the training step that task.ts describes.

    python torch_step.py FOLDER STEPS     FOLDER holds weights.f32 and ids.i32 as main.ts writes them

Sizes and hyperparameters are those of bench/models.ts and task.ts.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS, HEADS, HEAD_DIM = 4096, 256, 768, 4, 8, 32
SEQUENCES, LENGTH = 4, 128
EPSILON, THETA = 1e-5, 10_000.0

torch.set_num_threads(2)
folder, steps = sys.argv[1], int(sys.argv[2])


def from_file(name, dtype):
    with open(f"{folder}/{name}", "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=dtype)


def measure_gemm(layout, size):
    a, b = (torch.rand(size, size) - 0.5 for _ in range(2))
    a = a.T if layout == "tn" else a
    b = b.T if layout == "nt" else b
    reference = a.double() @ b.double()
    error = ((a @ b - reference).abs().max() / reference.abs().max()).item()

    def run(runs):
        start = time.perf_counter()
        for _ in range(runs):
            a @ b
        return time.perf_counter() - start

    runs = max(1, int(0.5 / run(3) * 3))
    seconds = statistics.median(run(runs) / runs for _ in range(3))
    return {"gflops": 2 * size**3 / seconds / 1e9, "error": error}


flat = from_file("weights.f32", torch.float32)
at = 0


def take(*shape):
    global at
    count = torch.Size(shape).numel()
    at += count
    return flat[at - count:at].reshape(shape).clone().requires_grad_()


embedding = take(VOCABULARY, HIDDEN)
layers = []
for _ in range(LAYERS):
    input_norm = take(HIDDEN)
    q, k, v, o = (take(HIDDEN, HIDDEN) for _ in range(4))
    post_norm = take(HIDDEN)
    gate, up = (take(INTERMEDIATE, HIDDEN) for _ in range(2))
    layers.append((input_norm, q, k, v, o, post_norm, gate, up, take(HIDDEN, INTERMEDIATE)))
final_norm = take(HIDDEN)
head = take(VOCABULARY, HIDDEN)
parameters = [embedding, *(weight for layer in layers for weight in layer), final_norm, head]

ids = from_file("ids.i32", torch.int32).long().reshape(SEQUENCES, LENGTH + 1)
angles = torch.outer(torch.arange(LENGTH).float(), THETA ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM))
cos, sin = angles.cos(), angles.sin()


def rotate(x):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def by_head(x):
    return x.reshape(SEQUENCES, LENGTH, HEADS, HEAD_DIM).transpose(1, 2)


def loss():
    x = embedding[ids[:, :-1]]
    for input_norm, q, k, v, o, post_norm, gate, up, down in layers:
        normed = F.rms_norm(x, (HIDDEN,), input_norm, EPSILON)
        queries, keys, values = (by_head(normed @ w.T) for w in (q, k, v))
        attention = F.scaled_dot_product_attention(rotate(queries), rotate(keys), values, is_causal=True)
        x = x + attention.transpose(1, 2).reshape(SEQUENCES, LENGTH, HIDDEN) @ o.T
        normed = F.rms_norm(x, (HIDDEN,), post_norm, EPSILON)
        x = x + (F.silu(normed @ gate.T) * (normed @ up.T)) @ down.T
    logits = F.rms_norm(x, (HIDDEN,), final_norm, EPSILON) @ head.T
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


optimizer = torch.optim.AdamW(
    [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ],
    lr=1e-3,
)
losses, seconds = [], []
for _ in range(steps):
    start = time.perf_counter()
    optimizer.zero_grad()
    value = loss()
    value.backward()
    optimizer.step()
    losses.append(value.item())
    seconds.append(time.perf_counter() - start)

print(json.dumps({
    "name": f"PyTorch {torch.__version__}, CPU, 2 threads",
    "gemm": {
        f"{layout} {size}": measure_gemm(layout, size)
        for layout, size in (("nt", 512), ("nt", 1024), ("nn", 1024), ("tn", 1024))
    },
    "step": {"tokensPerSecond": SEQUENCES * LENGTH / statistics.median(seconds[1:]), "losses": losses},
}))
