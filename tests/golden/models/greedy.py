"""Greedy answers of PyTorch float32 with transformers' cache of keys and values (torch 2.13.0, transformers 5.17.0), and how likely it
held each token of them. From the project's root: PYTHON tests/golden/models/greedy.py > tests/golden/models/greedy.json

Prompts are shorter than any window of these models (20), about to pass Phi-3's switch of rotary tables (32), and longer than both.
`config` is what is set otherwise than in the folder's config.json. Attention is the eager one: the others leave out Gemma 2's cap. Phi-3
goes without the cache: where its tables switch, this version of transformers drops the cache and then passes the last token alone.
"""
import json, os
import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = "tests/golden/models"
LENGTHS, TOKENS = [5, 27, 45], 16
DYNAMIC = dict(max_position_embeddings=32, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0))
folders = sorted(name for name in os.listdir(HERE) if os.path.exists(f"{HERE}/{name}/config.json"))
cases = [(f"{HERE}/{name}", {}) for name in folders]
cases += [("tests/golden/llama/sliding-window", {}), ("tests/golden/llama/untied", {}), ("tests/golden/llama/untied", DYNAMIC)]
# The nearest of two best logits that rounding cannot exchange.
CLEAR = 1e-3


def answer(folder, config, prompt):
    # Loaded anew each time: the dynamic type remembers the longest sequence.
    keys = AutoConfig.from_pretrained(folder, **config)
    model = AutoModelForCausalLM.from_pretrained(folder, config=keys, dtype=torch.float32, attn_implementation="eager")
    out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=TOKENS, eos_token_id=None, pad_token_id=0,
                         output_logits=True, return_dict_in_generate=True, use_cache=keys.model_type != "phi3")
    logits = torch.cat(out.logits)
    ids = out.sequences[0, len(prompt):]
    best = logits.topk(2).values
    logps = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    return (best[:, 0] - best[:, 1]).min().item(), ids.tolist(), [round(value, 6) for value in logps.tolist()]


found = []
for folder, config in cases:
    told = []
    for n, length in enumerate(LENGTHS):
        # Another prompt where two tokens are nearly alike.
        for seed in range(100):
            prompt = [4 + (7 * i * i + 31 * i + 13 * n + 17 * seed) % 299 for i in range(length)]
            margin, ids, logps = answer(folder, config, prompt)
            if margin > CLEAR:
                break
        told.append({"prompt": prompt, "answer": ids, "logProbabilities": logps})
    found.append({"folder": folder, **({"config": config} if config else {}), "cases": told})
print("[" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in found) + "]")
