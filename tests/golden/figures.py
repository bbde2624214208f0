"""Figures of the golden pairs, and of the first test pairs of configs/tiny, by PyTorch float32: as TRL's DPOTrainer takes them over
one batch of all pairs, and the mean probability of the first end token of chosen. From the project's root:
PYTHON tests/golden/figures.py > tests/golden/figures.json (torch 2.13.0, transformers 5.17.0)"""
import gzip
import json
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# Llama; a cap on logits; a scale on logits.
MODELS = ["tests/golden/llama/untied", "tests/golden/models/gemma2", "tests/golden/models/cohere"]
TINY = "configs/tiny/model"
EOS = 2


def tiny_pair(row):
    """By the published trainer's rules: an empty system message in front, the prompt is all but the last message, and an end token
    is put behind."""
    tokenizer, pair, system = AutoTokenizer.from_pretrained(TINY), {}, [{"role": "system", "content": ""}]
    for response in ("chosen", "rejected"):
        prompt = tokenizer.apply_chat_template(system + row["chosen"][:-1], tokenize=False)
        whole = tokenizer.apply_chat_template(system + row[response], tokenize=False)
        ids = tokenizer(whole, add_special_tokens=False).input_ids + [EOS]
        length = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        pair |= {f"{response}_input_ids": ids, f"{response}_labels": [-100] * length + ids[length:]}
    return pair


golden = json.load(open("tests/golden/llama/untied-golden/golden.json"))["pairs"]
rows = [json.loads(line) for line in gzip.open("configs/tiny/preferences/test.jsonl.gz").readlines()[:4]]
found = {}
for name, pairs in [*((name, golden) for name in MODELS), (TINY, [tiny_pair(row) for row in rows])]:
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, attn_implementation="eager")
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
