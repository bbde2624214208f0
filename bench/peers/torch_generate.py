"""Greedy tokens by transformers on the processor, two threads, float32 and with its cache of keys and values, for bench/generation.ts.

    python torch_generate.py MODEL_FOLDER TASK.json

Prints a line of JSON: seconds of prompts and of the tokens after the first, and the bytes a second that a product of a matrix and a
vector reads, which no decoding exceeds.
"""
import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
folder, file = sys.argv[1:]
with open(file) as text:
    task = json.load(text)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def generate(ids, count):
    start = time.perf_counter()
    out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    tokens = [out.logits[:, -1].argmax(-1)]
    prefill = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(count - 1):
        out = model(input_ids=tokens[-1][:, None], past_key_values=out.past_key_values, use_cache=True)
        tokens.append(out.logits[:, -1].argmax(-1))
    return {"prefill": prefill, "decode": time.perf_counter() - start, "first": [int(token[0]) for token in tokens]}


def bandwidth():
    matrix, vector = torch.rand(16384, 4096), torch.rand(4096)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        matrix @ vector
        best = min(best, time.perf_counter() - start)
    return matrix.numel() * 4 / best


generate(torch.tensor(task["prompts"][:1]), 2)
rates = [generate(torch.tensor(task["prompts"][:count]), task["tokens"]) for count in task["requests"]]
print(json.dumps({
    "name": f"transformers {transformers.__version__}, PyTorch {torch.__version__}, CPU, 2 threads",
    "rates": rates,
    "bandwidth": bandwidth(),
}))
