"""Greedy answers of PyTorch float32, from the project's root: PYTHON tests/golden/llama/greedy.py > tests/golden/llama/greedy.json"""
import json
import torch
from transformers import AutoModelForCausalLM

PROMPTS = {"untied": [[1, 5, 9, 70, 200], list(range(30, 42))], "sliding-window": [list(range(30, 42))]}
found = []
for name, prompts in PROMPTS.items():
    model = AutoModelForCausalLM.from_pretrained(f"tests/golden/llama/{name}", dtype=torch.float32)
    for prompt in prompts:
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=16, eos_token_id=None,
                             pad_token_id=0, output_logits=True, return_dict_in_generate=True)
        best = [logits[0].topk(2).values for logits in out.logits]
        # The best token's logit must be clear of the next one's, or rounding decides.
        assert min((a - b).item() for a, b in best) > 0.01
        found.append({"model": name, "prompt": prompt, "answer": out.sequences[0, len(prompt):].tolist()})
print(json.dumps(found))
