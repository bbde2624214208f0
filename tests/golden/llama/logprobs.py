"""Log-probabilities of the golden Llama's responses, token by token: python logprobs.py > logprobs.json (torch 2.13, transformers 5.17)."""
import json, torch
from transformers import AutoModelForCausalLM
folder = "tests/golden/llama/untied"
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
pairs = json.load(open(folder + "-golden/golden.json"))["pairs"][:3]
rows = []
for pair in pairs:
    row = {}
    for name in ["chosen", "rejected"]:
        ids, labels = pair[name + "_input_ids"], pair[name + "_labels"]
        with torch.no_grad():
            logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        at = [i for i, label in enumerate(labels) if label != -100]
        row[name] = {"ids": [ids[i] for i in at], "logProbabilities": [logps[i - 1, ids[i]].item() for i in at]}
    rows.append(row)
print(json.dumps(rows))
