"""Figures of the golden pairs by PyTorch float32, as TRL's DPOTrainer takes them over one batch of all pairs, and the mean
probability of the first end token of chosen. From the project's root: PYTHON tests/golden/figures.py > tests/golden/figures.json
(torch 2.13.0, transformers 5.17.0)"""
import json
import torch
from transformers import AutoModelForCausalLM

# Llama; a cap on logits; a scale on logits.
MODELS = ["llama/untied", "models/gemma2", "models/cohere"]
EOS = 2
pairs = json.load(open("tests/golden/llama/untied-golden/golden.json"))["pairs"]
found = {}
for name in MODELS:
    model = AutoModelForCausalLM.from_pretrained(f"tests/golden/{name}", dtype=torch.float32, attn_implementation="eager")
    entropies, correct, means, ends = [], [], {"chosen": [], "rejected": []}, []
    for pair in pairs:
        for response in means:
            ids, labels = (torch.tensor(pair[f"{response}_{what}"]) for what in ("input_ids", "labels"))
            with torch.no_grad():
                logits = model(ids[None]).logits[0, :-1].double()
            kept = labels[1:] != -100
            logits, labels = logits[kept], labels[1:][kept]
            logps = logits.log_softmax(-1)
            entropies.append(-(logps.exp() * logps).sum(-1))
            means[response].append(logits.mean(-1))
            if response == "rejected":
                continue
            # The best logit must be clear of the next one, or rounding decides.
            best = logits.topk(2).values
            assert (best[:, 0] - best[:, 1]).min() > 1e-5
            correct.append(logits.argmax(-1) == labels)
            end = (labels == EOS).nonzero()[0, 0]
            ends.append(logps[end, EOS].exp())
    found[name] = {
        "logits/chosen": torch.cat(means["chosen"]).mean().item(),
        "logits/rejected": torch.cat(means["rejected"]).mean().item(),
        "entropy": torch.cat(entropies).mean().item(),
        "mean_token_accuracy": torch.cat(correct).double().mean().item(),
        "eos/probability": torch.stack(ends).mean().item(),
    }
print(json.dumps(found, indent=2))
