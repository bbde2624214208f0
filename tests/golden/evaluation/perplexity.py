"""Perplexity of a text by the loop of transformers' "Perplexity of fixed-length models", from the project's root:
python tests/golden/evaluation/perplexity.py > tests/golden/evaluation/perplexity.json (torch 2.13, transformers 5.17)."""
import json
import re
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "hello there, said the fox.\n\nThe fox was not there; the hound was there and said hello, \u00e9t\u00e9 \u00e0 Paris. " * 3
FOLDER = "tests/golden/llama/untied"
model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
encodings = tokenizer(TEXT, return_tensors="pt")
length = encodings.input_ids.size(1)
runs = []
for max_length, stride in [(32, 16), (32, 32), (32, 5)]:
    nll_sum, n_tokens, prev_end = 0.0, 0, 0
    for begin in range(0, length, stride):
        end = min(begin + max_length, length)
        trg_len = end - prev_end
        input_ids = encodings.input_ids[:, begin:end]
        target_ids = input_ids.clone()
        target_ids[:, :-trg_len] = -100
        # The document's count of predicted tokens: the first of a window has none before it.
        num_loss_tokens = (target_ids != -100).sum().item() - (1 if trg_len == end - begin else 0)
        if num_loss_tokens > 0:
            with torch.no_grad():
                logps = model(input_ids).logits[0, :-1].double().log_softmax(-1)
            labels = target_ids[0, 1:]
            kept = labels != -100
            nll_sum -= logps[kept].gather(1, labels[kept][:, None]).sum().item()
            n_tokens += num_loss_tokens
        prev_end = end
        if end == length:
            break
    runs.append({"max_length": max_length, "stride": stride, "tokens": n_tokens, "logp": -nll_sum,
                 "perplexity": torch.tensor(nll_sum / n_tokens).exp().item()})
print(json.dumps({"text": TEXT, "words": len(re.split(r"\s+", TEXT)), "bytes": len(TEXT.encode()), "ids": length, "runs": runs}))
